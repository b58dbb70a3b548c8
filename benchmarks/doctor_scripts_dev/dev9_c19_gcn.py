"""Full-batch GCN on a stochastic block model, node masks, two weight-decay groups, as in the planetoid examples."""
import math
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parameter import Parameter


class Data:
    pass


def sbm(classes=4, per=90, p_in=0.06, p_out=0.008, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(classes).repeat_interleave(per)
    n = len(y)
    prob = torch.where(y[:, None] == y[None], p_in, p_out)
    upper = torch.triu(torch.rand(n, n, generator=g) < prob, 1)
    adj = (upper | upper.T).float() + torch.eye(n)
    d = adj.sum(1).rsqrt()
    data = Data()
    data.x = F.one_hot(y, classes).float().repeat(1, 6) * 0.35 + torch.randn(n, classes * 6, generator=g)
    data.y, data.adj = y, (d[:, None] * adj * d[None]).to_sparse()
    perm = torch.randperm(n, generator=g)
    for name, idx in (("train", perm[:60]), ("val", perm[60:150]), ("test", perm[150:])):
        mask = torch.zeros(n, dtype=torch.bool)
        mask[idx] = True
        setattr(data, f"{name}_mask", mask)
    return data


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = Parameter(torch.empty(in_features, out_features))
        self.bias = Parameter(torch.empty(out_features))
        stdv = 1. / math.sqrt(out_features)
        self.weight.data.uniform_(-stdv, stdv)
        self.bias.data.uniform_(-stdv, stdv)

    def forward(self, inp, adj):
        return torch.spmm(adj, torch.mm(inp, self.weight)) + self.bias


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super().__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = GraphConvolution(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.dropout(x, self.dropout, training=self.training)
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, self.training)
        return F.log_softmax(self.gc2(x, adj), dim=1)


def train():
    model.train()
    optimizer.zero_grad()
    out = model(data.x, data.adj)
    loss = F.nll_loss(out[data.train_mask], data.y[data.train_mask])
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def test():
    model.eval()
    pred = model(data.x, data.adj).argmax(dim=-1)
    accs = []
    for mask in [data.train_mask, data.val_mask, data.test_mask]:
        accs.append(int((pred[mask] == data.y[mask]).sum()) / int(mask.sum()))
    return accs


torch.manual_seed(42)
data = sbm()
model = GCN(data.x.size(1), 16, 4, 0.4)
optimizer = torch.optim.Adam([dict(params=model.gc1.parameters(), weight_decay=5e-4),
                              dict(params=model.gc2.parameters(), weight_decay=0)], lr=0.01)
best_val_acc = test_acc = 0
times = []
for epoch in range(1, 201):
    start = time.time()
    loss = train()
    train_acc, val_acc, tmp_test_acc = test()
    if val_acc > best_val_acc:
        best_val_acc = val_acc
        test_acc = tmp_test_acc
    if epoch % 20 == 0:
        print(f"Epoch: {epoch:03d}, Loss: {loss:.4f}, Train: {train_acc:.3f}, Val: {val_acc:.3f}, Test: {test_acc:.3f}")
    times.append(time.time() - start)
print(f"Median time per epoch: {torch.tensor(times).median():.4f}s")
