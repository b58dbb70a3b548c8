"""Semi-supervised node classification with a graph convolutional network, on a citation-like graph."""

from __future__ import division, print_function

import argparse
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.nn.parameter import Parameter

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=42, help="Random seed.")
parser.add_argument("--epochs", type=int, default=600, help="Number of epochs to train.")
parser.add_argument("--lr", type=float, default=0.01, help="Initial learning rate.")
parser.add_argument("--weight_decay", type=float, default=5e-4, help="Weight decay (L2 loss on parameters).")
parser.add_argument("--hidden", type=int, default=32, help="Number of hidden units.")
parser.add_argument("--dropout", type=float, default=0.5, help="Dropout rate (1 - keep probability).")
parser.add_argument("--nodes", type=int, default=2400)


def load_data(nodes, seed, classes=5, features=40):
    """Papers of five fields that cite mostly within their field; features say a little about it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, nodes)
    same = labels[:, None] == labels[None, :]
    upper = np.triu(rng.random((nodes, nodes)) < np.where(same, 0.011, 0.0008), k=1)
    adj = (upper | upper.T).astype(np.float32)
    centers = rng.normal(0, 0.4, (classes, features))
    x = centers[labels] + rng.normal(0, 1, (nodes, features))

    # D^-1/2 (A + I) D^-1/2
    adj += np.eye(nodes, dtype=np.float32)
    scale = adj.sum(1) ** -0.5
    adj = scale[:, None] * adj * scale[None, :]

    order = rng.permutation(nodes)
    idx_train, idx_val, idx_test = np.split(order, [nodes // 5, 2 * nodes // 5])
    return (
        torch.FloatTensor(adj),
        torch.FloatTensor(x),
        torch.LongTensor(labels),
        torch.LongTensor(idx_train),
        torch.LongTensor(idx_val),
        torch.LongTensor(idx_test),
    )


class GraphConvolution(nn.Module):
    """Simple GCN layer, similar to https://arxiv.org/abs/1609.02907"""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = Parameter(torch.empty(in_features, out_features))
        self.bias = Parameter(torch.zeros(out_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, input, adj):
        return torch.mm(adj, torch.mm(input, self.weight)) + self.bias


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
    return (output.argmax(1) == labels).double().mean().item()


def main():
    args = parser.parse_args()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    adj, features, labels, idx_train, idx_val, idx_test = load_data(args.nodes, args.seed)
    model = GCN(features.shape[1], args.hidden, int(labels.max()) + 1, args.dropout)
    optimizer = optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)

    def train(epoch):
        t = time.time()
        model.train()
        optimizer.zero_grad()
        output = model(features, adj)
        loss_train = F.nll_loss(output[idx_train], labels[idx_train])
        acc_train = accuracy(output[idx_train], labels[idx_train])
        loss_train.backward()
        optimizer.step()

        if epoch % 10 == 0:
            # evaluate the validation nodes separately, without dropout
            model.eval()
            with torch.no_grad():
                output = model(features, adj)
            loss_val = F.nll_loss(output[idx_val], labels[idx_val])
            acc_val = accuracy(output[idx_val], labels[idx_val])
            print(
                "Epoch: {:04d}".format(epoch),
                "loss_train: {:.4f}".format(loss_train.item()),
                "acc_train: {:.4f}".format(acc_train),
                "loss_val: {:.4f}".format(loss_val.item()),
                "acc_val: {:.4f}".format(acc_val),
                "time: {:.4f}s".format(time.time() - t),
            )

    def test():
        model.eval()
        with torch.no_grad():
            output = model(features, adj)
        loss_test = F.nll_loss(output[idx_test], labels[idx_test])
        acc_test = accuracy(output[idx_test], labels[idx_test])
        print("Test set results:", "loss= {:.4f}".format(loss_test.item()), "accuracy= {:.4f}".format(acc_test))

    t_total = time.time()
    for epoch in range(1, args.epochs + 1):
        train(epoch)
    print("Optimization Finished! Total time elapsed: {:.4f}s".format(time.time() - t_total))
    test()


if __name__ == "__main__":
    main()
