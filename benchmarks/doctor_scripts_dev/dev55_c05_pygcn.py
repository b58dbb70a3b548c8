"""Graph convolution on a generated citation-like graph, full batch."""
import argparse
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


def load_data(nodes=400, classes=4, dim=24, seed=0):
    """A stochastic block model: papers cite mostly papers of their own topic; noisy bags of features."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, nodes)
    same = labels[:, None] == labels[None, :]
    prob = np.where(same, 0.06, 0.006)
    upper = np.triu(rng.random((nodes, nodes)) < prob, 1)
    adj = (upper | upper.T).astype(np.float32)
    centers = rng.normal(0, 0.7, (classes, dim))
    features = (centers[labels] + rng.normal(0, 1.0, (nodes, dim))).astype(np.float32)
    adj = normalize_adj(adj + np.eye(nodes, dtype=np.float32))
    return torch.from_numpy(adj), torch.from_numpy(features), torch.from_numpy(labels).long()


def normalize_adj(adj):
    """Symmetric normalization, D^-1/2 A D^-1/2."""
    scale = 1.0 / np.sqrt(adj.sum(1))
    return adj * scale[:, None] * scale[None, :]


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        if bias:
            self.bias = nn.Parameter(torch.zeros(out_features))
        else:
            self.register_parameter("bias", None)
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adj):
        output = adj @ (x @ self.weight)
        return output if self.bias is None else output + self.bias


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super().__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = GraphConvolution(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        return F.log_softmax(self.gc2(x, adj), dim=1)


def accuracy(output, labels):
    preds = output.max(1)[1].type_as(labels)
    return preds.eq(labels).double().sum() / len(labels)


def evaluate(output, labels, idx):
    return F.nll_loss(output[idx], labels[idx]).item(), accuracy(output[idx], labels[idx]).item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=42, help="Random seed.")
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight_decay", type=float, default=5e-4)
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--n_train", type=int, default=120)
    parser.add_argument("--n_val", type=int, default=120)
    args = parser.parse_args()

    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    adj, features, labels = load_data()
    perm = torch.randperm(len(labels))
    idx_train = perm[: args.n_train]
    idx_val = perm[args.n_train : args.n_train + args.n_val]
    idx_test = perm[args.n_train + args.n_val :]

    model = GCN(
        nfeat=features.shape[1], nhid=args.hidden, nclass=int(labels.max()) + 1, dropout=args.dropout
    )
    optimizer = optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)

    t_total = time.time()
    for epoch in range(args.epochs):
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
        loss_val, acc_val = evaluate(output, labels, idx_val)
        if (epoch + 1) % 10 == 0:
            print(
                f"Epoch: {epoch + 1:04d}",
                f"loss_train: {loss_train.item():.4f}",
                f"acc_train: {acc_train.item():.4f}",
                f"loss_val: {loss_val:.4f}",
                f"acc_val: {acc_val:.4f}",
            )
    print(f"Optimization finished, {time.time() - t_total:.2f}s")

    model.eval()
    with torch.no_grad():
        output = model(features, adj)
    loss_test, acc_test = evaluate(output, labels, idx_test)
    print(f"Test set results: loss= {loss_test:.4f} accuracy= {acc_test:.4f}")


if __name__ == "__main__":
    main()
