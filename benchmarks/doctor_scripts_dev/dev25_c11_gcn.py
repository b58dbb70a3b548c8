"""Semi-supervised node classification with a two-layer GCN (Kipf & Welling), full batch, on a made citation graph."""

import copy
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parameter import Parameter

NODES, CLASSES, WORDS = 5000, 6, 300


def make_graph(seed=0):
    """Papers cite papers of their own field more often, and use its words more often."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, NODES)
    members = [np.flatnonzero(labels == c) for c in range(CLASSES)]
    source = rng.integers(0, NODES, 3 * NODES)
    same = rng.random(len(source)) < 0.7
    target = np.array([rng.choice(members[labels[s]]) if keep else rng.integers(0, NODES) for s, keep in zip(source, same)])
    edges = np.stack([source, target])[:, source != target]
    edges = np.unique(np.concatenate([edges, edges[::-1]], axis=1), axis=1)
    share = np.full((CLASSES, WORDS), 0.03)
    width = WORDS // CLASSES
    for c in range(CLASSES):
        share[c, c * width : (c + 1) * width] = 0.09
    features = (rng.random((NODES, WORDS)) < share[labels]).astype(np.float32)
    return edges, features, labels


def normalize_rows(features):
    return features / np.maximum(features.sum(1, keepdims=True), 1)


def normalized_adjacency(edges):
    """D^-1/2 (A + I) D^-1/2"""
    loops = np.arange(NODES)
    edges = np.concatenate([edges, np.stack([loops, loops])], axis=1)
    degree = np.bincount(edges[0], minlength=NODES)
    values = 1.0 / np.sqrt(degree[edges[0]] * degree[edges[1]])
    return torch.sparse_coo_tensor(torch.from_numpy(edges), torch.from_numpy(values).float(), (NODES, NODES)).coalesce()


def split(labels, seed=1):
    """Forty labelled nodes of each class; 600 for validation and 1500 for the test from the rest."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(NODES)
    train = np.concatenate([order[labels[order] == c][:40] for c in range(CLASSES)])
    rest = order[~np.isin(order, train)]
    return [torch.from_numpy(part) for part in (train, rest[:600], rest[600:2100])]


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = Parameter(torch.empty(in_features, out_features))
        self.bias = Parameter(torch.zeros(out_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adj):
        return torch.sparse.mm(adj, x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super().__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = GraphConvolution(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.dropout(x, self.dropout, training=self.training)
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        return F.log_softmax(self.gc2(x, adj), dim=1)


def accuracy(output, labels):
    return (output.argmax(1) == labels).float().mean().item()


torch.manual_seed(42)
edges, features, labels = make_graph()
idx_train, idx_val, idx_test = split(labels)
adj = normalized_adjacency(edges)
features = torch.from_numpy(normalize_rows(features))
labels = torch.from_numpy(labels)

model = GCN(nfeat=WORDS, nhid=32, nclass=CLASSES, dropout=0.5)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)

best_val, best_state = 0.0, None
started = time.time()
for epoch in range(800):
    model.train()
    optimizer.zero_grad()
    output = model(features, adj)
    loss_train = F.nll_loss(output[idx_train], labels[idx_train])
    loss_train.backward()
    optimizer.step()

    if epoch % 5 == 4:
        model.eval()
        with torch.no_grad():
            output = model(features, adj)
        acc_val = accuracy(output[idx_val], labels[idx_val])
        if acc_val > best_val:
            best_val, best_state = acc_val, copy.deepcopy(model.state_dict())
        if epoch % 25 == 24:
            loss_val = F.nll_loss(output[idx_val], labels[idx_val]).item()
            print(f"Epoch {epoch + 1:04d} loss_train {loss_train.item():.4f} loss_val {loss_val:.4f} acc_val {acc_val:.4f}")

model.load_state_dict(best_state)
model.eval()
with torch.no_grad():
    acc_test = accuracy(model(features, adj)[idx_test], labels[idx_test])
print(f"Best validation {best_val:.4f}, test {acc_test:.4f}, {time.time() - started:.1f}s")
