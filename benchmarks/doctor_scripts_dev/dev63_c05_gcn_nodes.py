"""Semi-supervised classification of the nodes of a graph, after pygcn."""

import argparse
import math
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.nn.parameter import Parameter


def normalize(adj):
    """D^-1/2 (A + I) D^-1/2"""
    adj = adj + np.eye(len(adj))
    inverse_root = 1.0 / np.sqrt(adj.sum(1))
    return adj * inverse_root[:, None] * inverse_root[None, :]


def load_data(nodes=800, classes=4, features=24, seed=0):
    """A stochastic block model: papers of a field cite papers of that field, words hint at the field."""
    rng = np.random.RandomState(seed)
    labels = rng.randint(0, classes, nodes)
    same = labels[:, None] == labels[None, :]
    probability = np.where(same, 0.03, 0.004)
    upper = np.triu(rng.rand(nodes, nodes) < probability, k=1)
    adj = (upper | upper.T).astype(np.float64)

    topics = rng.randn(classes, features)
    words = 0.6 * topics[labels] + rng.randn(nodes, features)

    order = rng.permutation(nodes)
    idx_train, idx_val, idx_test = order[:320], order[320:520], order[520:]
    return (
        torch.tensor(normalize(adj), dtype=torch.float32),
        torch.tensor(words, dtype=torch.float32),
        torch.tensor(labels, dtype=torch.long),
        torch.tensor(idx_train),
        torch.tensor(idx_val),
        torch.tensor(idx_test),
    )


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(torch.empty(in_features, out_features))
        if bias:
            self.bias = Parameter(torch.empty(out_features))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self):
        stdv = 1.0 / math.sqrt(self.weight.size(1))
        self.weight.data.uniform_(-stdv, stdv)
        if self.bias is not None:
            self.bias.data.uniform_(-stdv, stdv)

    def forward(self, input, adj):
        support = torch.mm(input, self.weight)
        output = torch.mm(adj, support)
        return output if self.bias is None else output + self.bias

    def __repr__(self):
        return f"{self.__class__.__name__} ({self.in_features} -> {self.out_features})"


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
    preds = output.max(1)[1].type_as(labels)
    return preds.eq(labels).double().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight_decay", type=float, default=5e-4)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.4)
    args = parser.parse_args()

    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    adj, features, labels, idx_train, idx_val, idx_test = load_data()
    model = GCN(features.shape[1], args.hidden, int(labels.max()) + 1, args.dropout)
    optimizer = optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    print(model)

    def train(epoch):
        t = time.time()
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
            acc_val = accuracy(output[idx_val], labels[idx_val])
        if epoch % 10 == 0:
            print(
                f"Epoch: {epoch:04d} loss_train: {loss_train.item():.4f} acc_train: {acc_train:.4f}",
                f"loss_val: {loss_val.item():.4f} acc_val: {acc_val:.4f} time: {time.time() - t:.4f}s",
            )

    def test():
        model.eval()
        with torch.no_grad():
            output = model(features, adj)
            loss = F.nll_loss(output[idx_test], labels[idx_test])
        print(f"Test set results: loss= {loss.item():.4f} accuracy= {accuracy(output[idx_test], labels[idx_test]):.4f}")

    for epoch in range(args.epochs):
        train(epoch)
    print("Optimization Finished!")
    test()


if __name__ == "__main__":
    main()
