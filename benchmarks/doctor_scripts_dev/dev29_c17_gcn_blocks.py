"""Two-layer GCN (Kipf & Welling) on a stochastic block model, no graph library. Transductive: the whole graph each step."""
import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=42)
parser.add_argument("--epochs", type=int, default=600)
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--weight_decay", type=float, default=5e-4)
parser.add_argument("--hidden", type=int, default=64)
parser.add_argument("--dropout", type=float, default=0.5)
args = parser.parse_args()

np.random.seed(args.seed)
torch.manual_seed(args.seed)


def load_data(nodes=3000, classes=5, dims=64):
    labels = np.random.randint(0, classes, nodes)
    same = labels[:, None] == labels[None, :]
    edges = np.triu(np.random.rand(nodes, nodes) < np.where(same, 0.010, 0.0012), k=1)
    row, col = np.nonzero(edges)
    centers = 0.25 * np.random.randn(classes, dims)
    features = centers[labels] + np.random.randn(nodes, dims)

    loops = np.arange(nodes)
    row, col = np.concatenate([row, col, loops]), np.concatenate([col, row, loops])
    degree = np.bincount(row, minlength=nodes)
    values = 1 / np.sqrt(degree[row] * degree[col])
    adj = torch.sparse_coo_tensor(np.stack([row, col]), torch.tensor(values, dtype=torch.float32), (nodes, nodes)).coalesce()

    order = np.random.permutation(nodes)
    idx_train, idx_val, idx_test = (torch.from_numpy(part) for part in (order[:300], order[300:900], order[900:]))
    return adj, torch.tensor(features, dtype=torch.float32), torch.from_numpy(labels), idx_train, idx_val, idx_test


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adj):
        return torch.sparse.mm(adj, x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super().__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = GraphConvolution(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.dropout(x, self.dropout, training=self.training)
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        return F.log_softmax(self.gc2(x, adj), dim=1)


def accuracy(output, labels):
    return (output.argmax(1) == labels).double().mean().item()


adj, features, labels, idx_train, idx_val, idx_test = load_data()
model = GCN(features.shape[1], args.hidden, int(labels.max()) + 1, args.dropout)
optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)


def train(epoch):
    model.train()
    optimizer.zero_grad()
    output = model(features, adj)
    loss_train = F.nll_loss(output[idx_train], labels[idx_train])
    loss_train.backward()
    optimizer.step()

    model.eval()
    with torch.no_grad():
        output = model(features, adj)
    loss_val = F.nll_loss(output[idx_val], labels[idx_val])
    if epoch % 10 == 0:
        print(f"Epoch: {epoch:04d} loss_train: {loss_train.item():.4f} loss_val: {loss_val.item():.4f} "
              f"acc_val: {accuracy(output[idx_val], labels[idx_val]):.4f}")


def test():
    model.eval()
    with torch.no_grad():
        output = model(features, adj)
    print(f"Test set results: loss= {F.nll_loss(output[idx_test], labels[idx_test]).item():.4f} "
          f"accuracy= {accuracy(output[idx_test], labels[idx_test]):.4f}")


for epoch in range(1, args.epochs + 1):
    train(epoch)
test()
