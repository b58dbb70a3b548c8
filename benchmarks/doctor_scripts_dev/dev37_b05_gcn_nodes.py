from __future__ import division, print_function

import argparse
import os
import tempfile
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

# Training settings
parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=42, help="Random seed.")
parser.add_argument("--epochs", type=int, default=200, help="Number of epochs to train.")
parser.add_argument("--lr", type=float, default=0.01, help="Initial learning rate.")
parser.add_argument("--weight_decay", type=float, default=5e-4, help="Weight decay (L2 loss on parameters).")
parser.add_argument("--hidden", type=int, default=16, help="Number of hidden units.")
parser.add_argument("--dropout", type=float, default=0.5, help="Dropout rate (1 - keep probability).")
args = parser.parse_args()

np.random.seed(args.seed)
torch.manual_seed(args.seed)


def normalize(mx):
    """Row-normalize a matrix"""
    rowsum = mx.sum(1, keepdims=True)
    return mx / np.maximum(rowsum, 1e-8)


def load_data(n=400, n_class=4, n_words=80):
    """Papers of four fields that cite each other, mostly within their field; each is a bag of words."""
    rng = np.random.RandomState(7)
    fields = rng.randint(0, n_class, n)
    same = fields[:, None] == fields[None, :]
    cites = (rng.rand(n, n) < np.where(same, 0.05, 0.012)).astype(np.float32)
    adj = np.triu(cites, 1)
    adj = adj + adj.T + np.eye(n, dtype=np.float32)

    topic = rng.rand(n_class, n_words) < 0.25
    words = (rng.rand(n, n_words) < np.where(topic[fields], 0.18, 0.08)).astype(np.float32)

    order = rng.permutation(n)
    idx_train = torch.LongTensor(order[:140])
    idx_val = torch.LongTensor(order[140:240])
    idx_test = torch.LongTensor(order[240:])

    adj = torch.FloatTensor(normalize(adj))
    features = torch.FloatTensor(words)
    labels = torch.LongTensor(fields)
    return adj, features, labels, idx_train, idx_val, idx_test


def accuracy(output, labels):
    preds = output.max(1)[1].type_as(labels)
    correct = preds.eq(labels).double().sum()
    return (correct / len(labels)).item()


class GraphConvolution(nn.Module):
    """Simple GCN layer, similar to https://arxiv.org/abs/1609.02907"""

    def __init__(self, in_features, out_features):
        super(GraphConvolution, self).__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, input, adj):
        support = torch.mm(input, self.weight)
        return torch.mm(adj, support) + self.bias


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


adj, features, labels, idx_train, idx_val, idx_test = load_data()
nclass = int(labels.max()) + 1
model = GCN(features.shape[1], args.hidden, nclass, args.dropout)
optimizer = optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
path = os.path.join(tempfile.mkdtemp(), "gcn.pt")


def train(epoch):
    t = time.time()
    model.train()
    optimizer.zero_grad()
    output = model(features, adj)
    loss_train = F.nll_loss(output[idx_train], labels[idx_train])
    acc_train = accuracy(output[idx_train], labels[idx_train])
    loss_train.backward()
    optimizer.step()

    # validation
    model.eval()
    with torch.no_grad():
        output = model(features, adj)
    loss_val = F.nll_loss(output[idx_val], labels[idx_val]).item()
    acc_val = accuracy(output[idx_val], labels[idx_val])
    if epoch % 20 == 0:
        print(
            "Epoch: {:04d}".format(epoch),
            "loss_train: {:.4f}".format(loss_train.item()),
            "acc_train: {:.4f}".format(acc_train),
            "loss_val: {:.4f}".format(loss_val),
            "acc_val: {:.4f}".format(acc_val),
            "time: {:.4f}s".format(time.time() - t),
        )
    return loss_val


def test():
    best = GCN(features.shape[1], args.hidden, nclass, args.dropout)
    best.load_state_dict(torch.load(path))
    best.eval()
    with torch.no_grad():
        output = best(features, adj)
    loss_test = F.nll_loss(output[idx_test], labels[idx_test])
    acc_test = accuracy(output[idx_test], labels[idx_test])
    print("Test set results:", "loss= {:.4f}".format(loss_test.item()), "accuracy= {:.4f}".format(acc_test))


# Train model
t_total = time.time()
lowest = float("inf")
for epoch in range(1, args.epochs + 1):
    loss_val = train(epoch)
    if loss_val < lowest:
        lowest = loss_val
        torch.save(model.state_dict(), path)
print("Optimization Finished!")
print("Total time elapsed: {:.4f}s".format(time.time() - t_total))

# Testing
test()
