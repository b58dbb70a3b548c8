from __future__ import division
from __future__ import print_function

import argparse
import copy
import math
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

# Training settings
parser = argparse.ArgumentParser()
parser.add_argument('--seed', type=int, default=42, help='Random seed.')
parser.add_argument('--epochs', type=int, default=200, help='Number of epochs to train.')
parser.add_argument('--lr', type=float, default=0.01, help='Initial learning rate.')
parser.add_argument('--weight_decay', type=float, default=5e-4, help='Weight decay (L2 loss on parameters).')
parser.add_argument('--hidden', type=int, default=16, help='Number of hidden units.')
parser.add_argument('--dropout', type=float, default=0.5, help='Dropout rate (1 - keep probability).')
args = parser.parse_args()

np.random.seed(args.seed)
torch.manual_seed(args.seed)


def normalize(mx):
    """Row-normalize matrix"""
    rowsum = mx.sum(1)
    r_inv = np.zeros_like(rowsum)
    r_inv[rowsum > 0] = 1.0 / rowsum[rowsum > 0]
    return mx * r_inv[:, None]


def load_data(n_nodes=700, n_classes=4, n_words=80):
    """Papers of four fields, which cite mostly those of their own and use some words more than others"""
    rng = np.random.RandomState(7)
    labels = rng.randint(0, n_classes, n_nodes)

    same = labels[:, None] == labels[None, :]
    upper = np.triu(rng.rand(n_nodes, n_nodes) < np.where(same, 0.025, 0.002), 1)
    adj = (upper | upper.T).astype(np.float32)

    field_of_word = np.arange(n_words) % n_classes
    usual = labels[:, None] == field_of_word[None, :]
    features = (rng.rand(n_nodes, n_words) < np.where(usual, 0.12, 0.06)).astype(np.float32)

    features = normalize(features)
    adj = normalize(adj + np.eye(n_nodes, dtype=np.float32))

    order = rng.permutation(n_nodes)
    idx_train = torch.LongTensor(order[:100])
    idx_val = torch.LongTensor(order[100:250])
    idx_test = torch.LongTensor(order[250:])
    return torch.FloatTensor(adj), torch.FloatTensor(features), torch.LongTensor(labels), idx_train, idx_val, idx_test


def accuracy(output, labels):
    preds = output.max(1)[1].type_as(labels)
    correct = preds.eq(labels).double()
    return correct.sum() / len(labels)


class GraphConvolution(nn.Module):
    """Simple GCN layer, similar to https://arxiv.org/abs/1609.02907"""

    def __init__(self, in_features, out_features):
        super(GraphConvolution, self).__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.reset_parameters()

    def reset_parameters(self):
        stdv = 1. / math.sqrt(self.weight.size(1))
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


# Load data
adj, features, labels, idx_train, idx_val, idx_test = load_data()

# Model and optimizer
model = GCN(nfeat=features.shape[1],
            nhid=args.hidden,
            nclass=labels.max().item() + 1,
            dropout=args.dropout)
optimizer = optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)


def train():
    model.train()
    optimizer.zero_grad()
    output = model(features, adj)
    loss_train = F.nll_loss(output[idx_train], labels[idx_train])
    acc_train = accuracy(output[idx_train], labels[idx_train])
    loss_train.backward()
    optimizer.step()
    return loss_train.item(), acc_train.item()


def evaluate(idx):
    model.eval()
    with torch.no_grad():
        output = model(features, adj)
        loss = F.nll_loss(output[idx], labels[idx])
        acc = accuracy(output[idx], labels[idx])
    return loss.item(), acc.item()


# Train model
t_total = time.time()
best_loss = float('inf')
best_state = None
for epoch in range(args.epochs):
    t = time.time()
    loss_train, acc_train = train()
    loss_val, acc_val = evaluate(idx_val)
    if loss_val < best_loss:
        best_loss = loss_val
        best_state = copy.deepcopy(model.state_dict())
    if (epoch + 1) % 20 == 0:
        print('Epoch: {:04d}'.format(epoch + 1),
              'loss_train: {:.4f}'.format(loss_train),
              'acc_train: {:.4f}'.format(acc_train),
              'loss_val: {:.4f}'.format(loss_val),
              'acc_val: {:.4f}'.format(acc_val),
              'time: {:.4f}s'.format(time.time() - t))
print("Optimization Finished!")
print("Total time elapsed: {:.4f}s".format(time.time() - t_total))

# Testing
model.load_state_dict(best_state)
loss_test, acc_test = evaluate(idx_test)
print("Test set results:",
      "loss= {:.4f}".format(loss_test),
      "accuracy= {:.4f}".format(acc_test))
