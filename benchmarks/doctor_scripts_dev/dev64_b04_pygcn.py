from __future__ import division, print_function

import argparse
import math
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.nn.parameter import Parameter


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--fastmode", action="store_true", default=False, help="Validate during training pass.")
    parser.add_argument("--seed", type=int, default=42, help="Random seed.")
    parser.add_argument("--epochs", type=int, default=150, help="Number of epochs to train (full batch).")
    parser.add_argument("--lr", type=float, default=0.01, help="Initial learning rate.")
    parser.add_argument("--weight_decay", type=float, default=5e-4, help="Weight decay (L2 loss on parameters).")
    parser.add_argument("--hidden", type=int, default=16, help="Number of hidden units.")
    parser.add_argument("--dropout", type=float, default=0.5, help="Dropout rate (1 - keep probability).")
    return parser.parse_args()


def normalize(mx):
    """Row-normalize a matrix."""
    rowsum = mx.sum(1)
    r_inv = np.power(rowsum, -1.0, where=rowsum > 0, out=np.zeros_like(rowsum))
    return r_inv[:, None] * mx


def load_data(nodes=600, classes=4, words=64, seed=0):
    """A citation graph: papers of four fields cite mostly their own field, and use some of its words."""
    print("Generating citation dataset...")
    rng = np.random.RandomState(seed)
    labels = rng.randint(classes, size=nodes)
    word_field = np.arange(words) % classes
    word_rate = np.where(labels[:, None] == word_field[None, :], 0.18, 0.08)
    features = (rng.rand(nodes, words) < word_rate).astype(np.float64)

    same = labels[:, None] == labels[None, :]
    adj = (rng.rand(nodes, nodes) < np.where(same, 0.022, 0.003)).astype(np.float64)
    adj = np.triu(adj, 1)
    adj = adj + adj.T

    features = normalize(features) * math.sqrt(words)
    adj = normalize(adj + np.eye(nodes))

    order = rng.permutation(nodes)
    idx_train, idx_val, idx_test = order[:240], order[240:400], order[400:]

    adj = torch.FloatTensor(adj).to_sparse()
    features = torch.FloatTensor(features)
    labels = torch.LongTensor(labels)
    idx_train, idx_val, idx_test = (torch.LongTensor(idx) for idx in (idx_train, idx_val, idx_test))
    return adj, features, labels, idx_train, idx_val, idx_test


def accuracy(output, labels):
    preds = output.max(1)[1].type_as(labels)
    correct = preds.eq(labels).double()
    correct = correct.sum()
    return correct / len(labels)


class GraphConvolution(nn.Module):
    """Simple GCN layer, similar to https://arxiv.org/abs/1609.02907"""

    def __init__(self, in_features, out_features):
        super(GraphConvolution, self).__init__()
        self.weight = Parameter(torch.empty(in_features, out_features))
        self.bias = Parameter(torch.empty(out_features))
        self.reset_parameters()

    def reset_parameters(self):
        stdv = 1.0 / math.sqrt(self.weight.size(1))
        self.weight.data.uniform_(-stdv, stdv)
        self.bias.data.uniform_(-stdv, stdv)

    def forward(self, input, adj):
        support = torch.mm(input, self.weight)
        output = torch.spmm(adj, support)
        return output + self.bias


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super(GCN, self).__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = GraphConvolution(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        x = self.gc2(x, adj)
        return F.log_softmax(x, dim=1)


def main():
    args = parse_args()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    adj, features, labels, idx_train, idx_val, idx_test = load_data()

    # Model and optimizer
    model = GCN(nfeat=features.shape[1], nhid=args.hidden, nclass=labels.max().item() + 1, dropout=args.dropout)
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

        if not args.fastmode:
            # Evaluate validation set performance separately,
            # deactivates dropout during validation run.
            model.eval()
            with torch.no_grad():
                output = model(features, adj)

        loss_val = F.nll_loss(output[idx_val], labels[idx_val])
        acc_val = accuracy(output[idx_val], labels[idx_val])
        if (epoch + 1) % 10 == 0:
            print(
                "Epoch: {:04d}".format(epoch + 1),
                "loss_train: {:.4f}".format(loss_train.item()),
                "acc_train: {:.4f}".format(acc_train.item()),
                "loss_val: {:.4f}".format(loss_val.item()),
                "acc_val: {:.4f}".format(acc_val.item()),
                "time: {:.4f}s".format(time.time() - t),
            )

    @torch.no_grad()
    def test():
        model.eval()
        output = model(features, adj)
        loss_test = F.nll_loss(output[idx_test], labels[idx_test])
        acc_test = accuracy(output[idx_test], labels[idx_test])
        print("Test set results:", f"loss= {loss_test.item():.4f}", f"accuracy= {acc_test.item():.4f}")

    # Train model
    t_total = time.time()
    for epoch in range(args.epochs):
        train(epoch)
    print("Optimization Finished! Total time elapsed: {:.4f}s".format(time.time() - t_total))

    test()


if __name__ == "__main__":
    main()
