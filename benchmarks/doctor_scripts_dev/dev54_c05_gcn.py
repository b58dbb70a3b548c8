"""Nodes of a stochastic block model, full batch, after tkipf/pygcn."""
import argparse
import math
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


def load_data(nodes=600, classes=4, features=16, seed=0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (nodes,), generator=g)
    same = labels[:, None] == labels[None, :]
    probability = torch.where(same, 0.03, 0.006)
    upper = (torch.rand(nodes, nodes, generator=g) < probability).float().triu(1)
    adj = upper + upper.t()
    centers = torch.randn(classes, features, generator=g)
    x = 0.5 * centers[labels] + torch.randn(nodes, features, generator=g)
    order = torch.randperm(nodes, generator=g)
    idx_train, idx_val, idx_test = order[:200], order[200:400], order[400:]
    return normalize(adj + torch.eye(nodes)), x, labels, idx_train, idx_val, idx_test


def normalize(adj):
    scale = adj.sum(1).rsqrt()
    return scale[:, None] * adj * scale[None, :]


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.reset_parameters()

    def reset_parameters(self):
        stdv = 1.0 / math.sqrt(self.weight.size(1))
        self.weight.data.uniform_(-stdv, stdv)
        self.bias.data.uniform_(-stdv, stdv)

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
        return self.gc2(x, adj)


def accuracy(output, labels):
    return (output.argmax(1) == labels).float().mean().item()


def train_step(model, optimizer, features, adj, labels, idx_train, classes):
    model.train()
    optimizer.zero_grad()
    inputs, asked = features, idx_train
    output = model(inputs, adj)
    loss_train = F.cross_entropy(output[asked], labels[asked])
    loss_train.backward()
    optimizer.step()
    return loss_train.item(), accuracy(output[asked], labels[asked])


@torch.no_grad()
def evaluate(model, features, adj, labels, idx_train, idx, classes):
    model.eval()
    inputs = features
    output = model(inputs, adj)
    return F.cross_entropy(output[idx], labels[idx]).item(), accuracy(output[idx], labels[idx])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight_decay", type=float, default=5e-4)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    adj, features, labels, idx_train, idx_val, idx_test = load_data()
    classes = int(labels.max()) + 1
    width = features.shape[1]
    model = GCN(nfeat=width, nhid=args.hidden, nclass=classes, dropout=args.dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)

    best_val, best_state = float("inf"), None
    start = time.time()
    for epoch in range(args.epochs):
        loss_train, acc_train = train_step(model, optimizer, features, adj, labels, idx_train, classes)
        loss_val, acc_val = evaluate(model, features, adj, labels, idx_train, idx_val, classes)
        if loss_val < best_val:
            best_val = loss_val
            best_state = {k: v.clone() for k, v in model.state_dict().items()}
        if epoch % 10 == 0:
            print(
                f"Epoch: {epoch:04d} loss_train: {loss_train:.4f} acc_train: {acc_train:.4f} "
                f"loss_val: {loss_val:.4f} acc_val: {acc_val:.4f}"
            )
    print(f"Optimization finished in {time.time() - start:.1f}s")
    model.load_state_dict(best_state)
    loss_test, acc_test = evaluate(model, features, adj, labels, idx_train, idx_test, classes)
    print(f"Test set results: loss= {loss_test:.4f} accuracy= {acc_test:.4f}")


if __name__ == "__main__":
    main()
