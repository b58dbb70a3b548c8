# coding: utf-8
# Semi-supervised node classification with graph convolutions (exported from a notebook)

# In [1]:
import math
import copy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.nn.parameter import Parameter

np.random.seed(42)
torch.manual_seed(42)

# In [2]: a citation-like graph: papers of four fields, of which some are rare
sizes = [200, 100, 60, 40]
nclass, nfeat = len(sizes), 16
labels = torch.tensor(np.repeat(np.arange(nclass), sizes))
nnodes = len(labels)
same = (labels[:, None] == labels[None, :]).float()
prob = 0.08 * same + 0.01 * (1 - same)
upper = torch.triu((torch.rand(nnodes, nnodes) < prob).float(), diagonal=1)
adj = upper + upper.t()
features = torch.randn(nclass, nfeat)[labels] + 2.0 * torch.randn(nnodes, nfeat)


# In [3]:
def normalize_adj(a):
    """D^-1/2 (A + I) D^-1/2"""
    a = a + torch.eye(a.size(0))
    d = a.sum(1).pow(-0.5)
    return d[:, None] * a * d[None, :]


adj = normalize_adj(adj)
perm = torch.randperm(nnodes)
idx_train = perm[:160]
idx_val = perm[160:240]
idx_test = perm[240:]

counts = torch.bincount(labels[idx_train], minlength=nclass).float()
weight = counts.sum() / (nclass * counts)


# In [4]:
class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super(GraphConvolution, self).__init__()
        self.in_features = in_features
        self.out_features = out_features
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
        output = torch.mm(adj, support)
        if self.bias is not None:
            return output + self.bias
        return output


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


# In [5]:
model = GCN(nfeat=nfeat, nhid=16, nclass=nclass, dropout=0.5)
optimizer = optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)


def accuracy(output, labels):
    preds = output.max(1)[1].type_as(labels)
    correct = preds.eq(labels).double()
    return correct.sum() / len(labels)


def macro_recall(output, labels):
    preds = output.max(1)[1]
    return torch.stack([(preds[labels == c] == c).double().mean() for c in range(nclass)]).mean()


def train():
    model.train()
    optimizer.zero_grad()
    output = model(features, adj)
    loss_train = F.nll_loss(output[idx_train], labels[idx_train], weight=weight)
    loss_train.backward()
    optimizer.step()
    return loss_train.item()


def test(idx):
    model.eval()
    with torch.no_grad():
        output = model(features, adj)
    return accuracy(output[idx], labels[idx]).item(), macro_recall(output[idx], labels[idx]).item()


# In [6]:
best_recall, best_weights = -1.0, None
for epoch in range(200):
    loss_train = train()
    acc_val, recall_val = test(idx_val)
    if recall_val > best_recall:
        best_recall, best_weights = recall_val, copy.deepcopy(model.state_dict())
    if (epoch + 1) % 20 == 0:
        print("Epoch: {:04d}".format(epoch + 1),
              "loss_train: {:.4f}".format(loss_train),
              "acc_val: {:.4f}".format(acc_val),
              "recall_val: {:.4f}".format(recall_val))

# In [7]:
model.load_state_dict(best_weights)
acc_test, recall_test = test(idx_test)
print("Test set results:", "accuracy= {:.4f}".format(acc_test), "macro recall= {:.4f}".format(recall_test))
