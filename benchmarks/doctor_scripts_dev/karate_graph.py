import torch
import torch.nn as nn
import torch.nn.functional as F


def make_graph(nodes=200, classes=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(nodes) % classes
    same = labels[:, None] == labels[None]
    chance = torch.where(same, torch.tensor(0.12), torch.tensor(0.01))
    upper = torch.triu(torch.rand(nodes, nodes, generator=g) < chance, diagonal=1).float()
    adj = upper + upper.T + torch.eye(nodes)
    scale = adj.sum(1).rsqrt()
    features = F.one_hot(labels, classes).float() + 1.5 * torch.randn(nodes, classes, generator=g)
    features = torch.cat([features, torch.randn(nodes, 12, generator=g)], 1)
    order = torch.randperm(nodes, generator=g)
    return features, scale[:, None] * adj * scale[None], labels, order[:100], order[100:150], order[150:]


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adj):
        return adj @ (x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super().__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = GraphConvolution(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.dropout(F.relu(self.gc1(x, adj)), self.dropout, training=self.training)
        return F.log_softmax(self.gc2(x, adj), dim=1)


torch.manual_seed(42)
features, adj, labels, idx_train, idx_val, idx_test = make_graph()
model = GCN(features.shape[1], 16, int(labels.max()) + 1, 0.3)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)


def accuracy(output, labels):
    return (output.argmax(1) == labels).float().mean()


def train(epoch):
    model.train()
    optimizer.zero_grad()
    output = model(features, adj)
    loss_train = F.nll_loss(output[idx_train], labels[idx_train])
    acc_train = accuracy(output[idx_train], labels[idx_train])
    loss_train.backward()
    optimizer.step()
    model.eval()
    with torch.no_grad():
        output = model(features, adj)
    loss_val = F.nll_loss(output[idx_val], labels[idx_val])
    print(epoch, loss_train.item(), acc_train.item(), loss_val.item(), accuracy(output[idx_val], labels[idx_val]).item())


for epoch in range(200):
    train(epoch)

model.eval()
with torch.no_grad():
    output = model(features, adj)
print("test", accuracy(output[idx_test], labels[idx_test]).item())
