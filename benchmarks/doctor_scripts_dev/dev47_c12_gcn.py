"""Graph convolution (Kipf & Welling) over a graph of similar waves: transductive, full batch, 160 labels of 800."""
from __future__ import division
from __future__ import print_function

import argparse
import copy
import math
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim

from toydata import waves

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=42)
parser.add_argument("--epochs", type=int, default=120)
parser.add_argument("--lr", type=float, default=0.02)
parser.add_argument("--weight_decay", type=float, default=5e-4)
parser.add_argument("--hidden", type=int, default=32)
parser.add_argument("--dropout", type=float, default=0.5)
parser.add_argument("--neighbors", type=int, default=6)
args = parser.parse_args()
torch.manual_seed(args.seed)


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        bound = math.sqrt(6 / (in_features + out_features))
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, input, adj):
        return adj @ (input @ self.weight) + self.bias


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


def load_data(neighbors):
    signals, labels = waves(800, seed=6)
    # the spectrum does not depend on the phase
    features = torch.fft.rfft(signals.squeeze(1)).abs().log1p()
    features = (features - features.mean(0)) / features.std(0)
    distance = torch.cdist(features, features)
    distance.fill_diagonal_(float("inf"))
    nearest = distance.topk(neighbors, dim=1, largest=False).indices
    adj = torch.zeros(len(labels), len(labels)).scatter_(1, nearest, 1.0)
    adj = torch.maximum(adj, adj.T) + torch.eye(len(labels))
    degree = adj.sum(1).rsqrt()
    adj = degree[:, None] * adj * degree[None, :]
    order = torch.randperm(len(labels))
    return adj, features, labels, order[:160], order[160:320], order[320:]


def accuracy(output, labels):
    return (output.argmax(1) == labels).float().mean()


adj, features, labels, idx_train, idx_val, idx_test = load_data(args.neighbors)
nclass = int(labels.max()) + 1
model = GCN(nfeat=features.shape[1], nhid=args.hidden, nclass=nclass, dropout=args.dropout)
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

    loss_val, acc_val = evaluate(idx_val)
    if epoch % 10 == 0:
        print(f"Epoch: {epoch:04d} loss_train: {loss_train.item():.4f} acc_train: {acc_train:.4f} "
              f"loss_val: {loss_val:.4f} acc_val: {acc_val:.4f} time: {time.time() - t:.4f}s")
    return loss_val


@torch.no_grad()
def evaluate(index):
    model.eval()
    # all nodes pass through the network together, whichever are asked about
    output = model(features, adj)
    return F.nll_loss(output[index], labels[index]).item(), accuracy(output[index], labels[index]).item()


best, best_state, waited = float("inf"), None, 0
for epoch in range(1, args.epochs + 1):
    loss_val = train(epoch)
    if loss_val < best:
        best, best_state, waited = loss_val, copy.deepcopy(model.state_dict()), 0
    else:
        waited += 1
        if waited == 30:
            print(f"no better for {waited} epochs, stopped at {epoch}")
            break

model.load_state_dict(best_state)
loss_test, acc_test = evaluate(idx_test)
print(f"Test set results: loss= {loss_test:.4f} accuracy= {acc_test:.4f}")
