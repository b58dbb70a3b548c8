"""Graph convolutional network (Kipf & Welling): subjects of papers from their words and citations."""

import argparse
import copy
import math
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.nn.parameter import Parameter

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


def generate_papers(n=600, n_class=4, words_per_class=25):
    """A citation graph: papers cite their own subject more often, and use its words."""
    labels = np.random.randint(n_class, size=n)
    same = labels[:, None] == labels[None, :]
    upper = np.triu(np.random.rand(n, n) < np.where(same, 0.035, 0.003), k=1)
    adj = (upper | upper.T).astype(np.float32)

    word_subject = np.arange(n_class * words_per_class) // words_per_class
    rates = np.where(labels[:, None] == word_subject[None, :], 0.08, 0.02)
    words = (np.random.rand(*rates.shape) < rates).astype(np.float32)
    return torch.from_numpy(adj), torch.from_numpy(words), torch.from_numpy(labels).long()


def normalize_adjacency(adj):
    """D^-1/2 (A + I) D^-1/2"""
    adj = adj + torch.eye(len(adj))
    d_inv_sqrt = adj.sum(1).pow(-0.5)
    return (d_inv_sqrt[:, None] * adj * d_inv_sqrt[None, :]).to_sparse()


def normalize_rows(features):
    return features / features.sum(1, keepdim=True).clamp(min=1)


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = Parameter(torch.empty(in_features, out_features))
        self.bias = Parameter(torch.empty(out_features))
        self.reset_parameters()

    def reset_parameters(self):
        stdv = 1.0 / math.sqrt(self.weight.size(1))
        self.weight.data.uniform_(-stdv, stdv)
        self.bias.data.uniform_(-stdv, stdv)

    def forward(self, input, adj):
        support = torch.mm(input, self.weight)
        return torch.sparse.mm(adj, support) + self.bias


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super().__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = GraphConvolution(nhid, nclass)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, adj):
        x = F.relu(self.gc1(x, adj))
        x = self.dropout(x)
        x = self.gc2(x, adj)
        return F.log_softmax(x, dim=1)


def accuracy(output, labels):
    return (output.argmax(dim=1) == labels).float().mean().item()


adj, features, labels = generate_papers()
adj = normalize_adjacency(adj)
features = normalize_rows(features)

perm = torch.from_numpy(np.random.permutation(len(labels)))
idx_train = perm[:160]
idx_val = perm[160:320]
idx_test = perm[320:]

model = GCN(features.shape[1], args.hidden, int(labels.max()) + 1, args.dropout)
optimizer = optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)


def train():
    model.train()
    optimizer.zero_grad()
    output = model(features, adj)
    loss_train = F.nll_loss(output[idx_train], labels[idx_train])
    loss_train.backward()
    optimizer.step()
    return loss_train.item(), accuracy(output[idx_train], labels[idx_train])


def evaluate(idx):
    model.eval()
    with torch.no_grad():
        output = model(features, adj)
        loss = F.nll_loss(output[idx], labels[idx])
    return loss.item(), accuracy(output[idx], labels[idx])


t_total = time.time()
best_acc, best_weights = -1.0, None
for epoch in range(1, args.epochs + 1):
    loss_train, acc_train = train()
    loss_val, acc_val = evaluate(idx_val)
    if acc_val > best_acc:
        best_acc, best_weights = acc_val, copy.deepcopy(model.state_dict())
    if epoch % 20 == 0:
        print(
            "Epoch: {:04d}".format(epoch),
            "loss_train: {:.4f}".format(loss_train),
            "acc_train: {:.4f}".format(acc_train),
            "loss_val: {:.4f}".format(loss_val),
            "acc_val: {:.4f}".format(acc_val),
        )
print("Optimization finished, {:.1f} s".format(time.time() - t_total))

model.load_state_dict(best_weights)
loss_test, acc_test = evaluate(idx_test)
print("best acc_val: {:.4f}".format(best_acc), "loss_test: {:.4f}".format(loss_test), "acc_test: {:.4f}".format(acc_test))
