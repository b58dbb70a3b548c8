"""Node classification with a graph convolutional network (after Kipf's pygcn) on a stochastic block model."""
import argparse
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=500)
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--weight_decay", type=float, default=5e-4)
parser.add_argument("--hidden", type=int, default=32)
parser.add_argument("--dropout", type=float, default=0.5)
parser.add_argument("--seed", type=int, default=42)
args = parser.parse_args()


def make_graph(nodes=2000, blocks=5, features=40, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, blocks, nodes)
    same = labels[:, None] == labels[None, :]
    upper = np.triu(rng.random((nodes, nodes)) < np.where(same, 0.02, 0.003), 1)
    adjacency = (upper | upper.T).astype(np.float32)
    centers = rng.standard_normal((blocks, features))
    x = 0.35 * centers[labels] + rng.standard_normal((nodes, features))
    return adjacency, x.astype(np.float32), labels.astype(np.int64)


def normalize_adjacency(adjacency):
    a = adjacency + np.eye(len(adjacency), dtype=np.float32)
    d = 1.0 / np.sqrt(a.sum(1))
    return torch.from_numpy(a * d[:, None] * d[None, :])


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
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        x = self.gc2(x, adj)
        return F.log_softmax(x, dim=1)


def accuracy(output, labels):
    return (output.argmax(1) == labels).float().mean().item()


torch.manual_seed(args.seed)
adjacency, features, labels = make_graph()
adj, features, labels = normalize_adjacency(adjacency), torch.from_numpy(features), torch.from_numpy(labels)
order = torch.randperm(len(labels))
idx_train, idx_val, idx_test = order[:600], order[600:1000], order[1000:]

model = GCN(features.shape[1], args.hidden, int(labels.max()) + 1, args.dropout)
optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)


def train(epoch):
    t = time.time()
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
        print(f"Epoch: {epoch:04d} loss_train: {loss_train.item():.4f} acc_train: {accuracy(output[idx_train], labels[idx_train]):.4f} "
              f"loss_val: {loss_val.item():.4f} acc_val: {accuracy(output[idx_val], labels[idx_val]):.4f} time: {time.time() - t:.4f}s")


def test():
    model.eval()
    with torch.no_grad():
        output = model(features, adj)
    print(f"Test set results: loss= {F.nll_loss(output[idx_test], labels[idx_test]).item():.4f} "
          f"accuracy= {accuracy(output[idx_test], labels[idx_test]):.4f}")


for epoch in range(args.epochs):
    train(epoch)
test()
