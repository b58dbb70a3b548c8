from __future__ import division
from __future__ import print_function

import argparse
import math
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.nn.parameter import Parameter


def normalize(mx):
    """Row-normalize a matrix."""
    rowsum = mx.sum(1)
    r_inv = 1.0 / np.maximum(rowsum, 1e-12)
    return mx * r_inv[:, None]


def load_data(num_nodes=400, num_classes=4, num_features=16, seed=42):
    """A graph of communities; nodes of one community are linked more often, and have somewhat similar features."""
    rng = np.random.RandomState(seed)
    labels = np.repeat(np.arange(num_classes), num_nodes // num_classes)
    same = labels[:, None] == labels[None, :]
    upper = np.triu(rng.rand(num_nodes, num_nodes) < np.where(same, 0.06, 0.006), k=1)
    adj = (upper | upper.T).astype(np.float32)
    adj = normalize(adj + np.eye(num_nodes, dtype=np.float32))

    centers = 0.5 * rng.randn(num_classes, num_features)
    features = centers[labels] + rng.randn(num_nodes, num_features)
    features = (features - features.mean(0)) / features.std(0)

    order = rng.permutation(num_nodes)
    idx_train = torch.LongTensor(order[:140])
    idx_val = torch.LongTensor(order[140:240])
    idx_test = torch.LongTensor(order[240:])

    adj = torch.FloatTensor(adj)
    features = torch.FloatTensor(features)
    labels = torch.LongTensor(labels)
    return adj, features, labels, idx_train, idx_val, idx_test


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


def accuracy(output, labels):
    preds = output.max(1)[1].type_as(labels)
    correct = preds.eq(labels).double().sum()
    return (correct / len(labels)).item()


# Training settings
parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=42, help="Random seed.")
parser.add_argument("--epochs", type=int, default=150, help="Number of epochs to train.")
parser.add_argument("--lr", type=float, default=0.01, help="Initial learning rate.")
parser.add_argument("--weight_decay", type=float, default=5e-4, help="Weight decay (L2 loss on parameters).")
parser.add_argument("--hidden", type=int, default=16, help="Number of hidden units.")
parser.add_argument("--dropout", type=float, default=0.5, help="Dropout rate.")
args = parser.parse_args()

np.random.seed(args.seed)
torch.manual_seed(args.seed)

adj, features, labels, idx_train, idx_val, idx_test = load_data()

model = GCN(nfeat=features.shape[1], nhid=args.hidden, nclass=labels.max().item() + 1, dropout=args.dropout)
optimizer = optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
criterion = nn.NLLLoss()


def train():
    model.train()
    optimizer.zero_grad()
    output = model(features, adj)
    loss_train = criterion(output[idx_train], labels[idx_train])
    loss_train.backward()
    optimizer.step()
    return loss_train.item(), accuracy(output[idx_train], labels[idx_train])


def evaluate(idx):
    model.eval()
    with torch.no_grad():
        output = model(features, adj)
        loss = criterion(output[idx], labels[idx])
    return loss.item(), accuracy(output[idx], labels[idx])


t_total = time.time()
best_val, test_at_best = 0.0, 0.0
for epoch in range(args.epochs):
    loss_train, acc_train = train()
    loss_val, acc_val = evaluate(idx_val)
    if acc_val > best_val:
        best_val = acc_val
        test_at_best = evaluate(idx_test)[1]
    if (epoch + 1) % 15 == 0:
        print("Epoch: {:04d}".format(epoch + 1),
              "loss_train: {:.4f}".format(loss_train),
              "acc_train: {:.4f}".format(acc_train),
              "loss_val: {:.4f}".format(loss_val),
              "acc_val: {:.4f}".format(acc_val))

print("Optimization Finished!")
print("Total time elapsed: {:.4f}s".format(time.time() - t_total))
loss_test, acc_test = evaluate(idx_test)
print("Test set results:",
      "loss= {:.4f}".format(loss_test),
      "accuracy= {:.4f}".format(acc_test),
      "at the best validation accuracy= {:.4f}".format(test_at_best))
