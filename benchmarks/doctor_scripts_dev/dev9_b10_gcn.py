from __future__ import division, print_function

import argparse
import math
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.nn.modules.module import Module
from torch.nn.parameter import Parameter

# Training settings
parser = argparse.ArgumentParser()
parser.add_argument("--fastmode", action="store_true", default=False, help="Skip validation during training.")
parser.add_argument("--seed", type=int, default=42)
parser.add_argument("--epochs", type=int, default=150)
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--weight_decay", type=float, default=5e-4)
parser.add_argument("--hidden", type=int, default=16)
parser.add_argument("--dropout", type=float, default=0.5)
args = parser.parse_args()
np.random.seed(args.seed)
torch.manual_seed(args.seed)


def normalize(mx):
    """Row-normalize matrix"""
    rowsum = mx.sum(1)
    r_inv = np.where(rowsum > 0, 1.0 / np.maximum(rowsum, 1e-12), 0.0)
    return mx * r_inv[:, None]


def load_data(nodes=600, classes=5, words=60):
    """A citation-like graph: communities, and bags of words that say little about them."""
    labels = np.random.randint(0, classes, nodes)
    same = labels[:, None] == labels[None, :]
    adj = np.triu(np.random.rand(nodes, nodes) < np.where(same, 0.030, 0.004), 1).astype(np.float32)
    topics = np.random.rand(classes, words) * 0.12
    features = (np.random.rand(nodes, words) < topics[labels]).astype(np.float32)
    # build symmetric adjacency matrix
    adj = np.maximum(adj, adj.T)
    features = normalize(features)
    adj = normalize(adj + np.eye(nodes))
    order = np.random.permutation(nodes)
    idx_train, idx_val, idx_test = order[:100], order[100:250], order[250:]
    adj = torch.FloatTensor(adj).to_sparse()
    to_long = torch.LongTensor
    return adj, torch.FloatTensor(features), to_long(labels), to_long(idx_train), to_long(idx_val), to_long(idx_test)


class GraphConvolution(Module):
    def __init__(self, in_features, out_features, bias=True):
        super(GraphConvolution, self).__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(torch.FloatTensor(in_features, out_features))
        if bias:
            self.bias = Parameter(torch.FloatTensor(out_features))
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
        output = torch.spmm(adj, support)
        return output + self.bias if self.bias is not None else output

    def __repr__(self):
        return self.__class__.__name__ + " (" + str(self.in_features) + " -> " + str(self.out_features) + ")"


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
    correct = preds.eq(labels).double()
    return correct.sum() / len(labels)


adj, features, labels, idx_train, idx_val, idx_test = load_data()
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
        # deactivates dropout during validation run.
        model.eval()
        output = model(features, adj)
    loss_val = F.nll_loss(output[idx_val], labels[idx_val])
    acc_val = accuracy(output[idx_val], labels[idx_val])
    if epoch % 25 == 24:
        print("Epoch: {:04d} loss_train: {:.4f} acc_train: {:.4f} loss_val: {:.4f} acc_val: {:.4f} time: {:.4f}s".format(
            epoch + 1, loss_train.item(), acc_train.item(), loss_val.item(), acc_val.item(), time.time() - t))


def test():
    model.eval()
    output = model(features, adj)
    loss_test = F.nll_loss(output[idx_test], labels[idx_test])
    acc_test = accuracy(output[idx_test], labels[idx_test])
    print("Test set results: loss= {:.4f} accuracy= {:.4f}".format(loss_test.item(), acc_test.item()))


for epoch in range(args.epochs):
    train(epoch)
test()
