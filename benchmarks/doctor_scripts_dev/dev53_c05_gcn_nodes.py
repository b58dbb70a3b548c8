"""Node classification with a graph convolutional network, after tkipf/pygcn; the graph is a stochastic block model."""

import argparse
import copy
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.nn.parameter import Parameter


def make_graph(n_node=400, n_class=4, n_feat=16, p_in=0.06, p_out=0.006, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_class, n_node)
    same = labels[:, None] == labels[None, :]
    upper = np.triu(rng.random((n_node, n_node)) < np.where(same, p_in, p_out), 1)
    adj = (upper | upper.T).astype(np.float32)
    centers = rng.normal(size=(n_class, n_feat))
    features = 0.5 * centers[labels] + rng.normal(size=(n_node, n_feat))
    return adj, features.astype(np.float32), labels.astype(np.int64)


def normalize(adj):
    """Symmetric normalization with self loops: D^-1/2 (A + I) D^-1/2."""
    adj = adj + np.eye(len(adj), dtype=np.float32)
    d = adj.sum(1) ** -0.5
    return d[:, None] * adj * d[None, :]


def load_data(seed):
    adj, features, labels = make_graph(seed=seed)
    order = np.random.default_rng(seed + 1).permutation(len(labels))
    idx_train, idx_val, idx_test = order[:120], order[120:240], order[240:]
    mean, std = features[idx_train].mean(0), features[idx_train].std(0)
    features = (features - mean) / std
    tensors = [torch.from_numpy(a) for a in (normalize(adj), features, labels, idx_train, idx_val, idx_test)]
    return tensors


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = Parameter(torch.empty(in_features, out_features))
        self.bias = Parameter(torch.zeros(out_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adj):
        return adj @ (x @ self.weight) + self.bias


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


def accuracy(output, labels):
    return (output.argmax(1) == labels).double().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight_decay", type=float, default=5e-4)
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--dropout", type=float, default=0.3)
    args = parser.parse_args()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    adj, features, labels, idx_train, idx_val, idx_test = load_data(args.seed)
    n_class = int(labels.max()) + 1
    model = GCN(nfeat=features.shape[1], nhid=args.hidden, nclass=n_class, dropout=args.dropout)
    optimizer = optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)

    def train(epoch):
        model.train()
        optimizer.zero_grad()
        output = model(features, adj)
        loss_train = F.nll_loss(output[idx_train], labels[idx_train])
        loss_train.backward()
        optimizer.step()
        return loss_train.item()

    @torch.no_grad()
    def evaluate(idx):
        model.eval()
        output = model(features, adj)
        return F.nll_loss(output[idx], labels[idx]).item(), accuracy(output[idx], labels[idx])

    t_total = time.time()
    best_loss, best_state = float("inf"), None
    for epoch in range(args.epochs):
        loss_train = train(epoch)
        loss_val, acc_val = evaluate(idx_val)
        if loss_val < best_loss:
            best_loss, best_state = loss_val, copy.deepcopy(model.state_dict())
        if (epoch + 1) % 20 == 0:
            print(
                f"Epoch: {epoch + 1:04d} loss_train: {loss_train:.4f} "
                f"loss_val: {loss_val:.4f} acc_val: {acc_val:.4f}"
            )
    print(f"Optimization finished, {time.time() - t_total:.2f}s")

    model.load_state_dict(best_state)
    loss_test, acc_test = evaluate(idx_test)
    print(f"Test set results: loss= {loss_test:.4f} accuracy= {acc_test:.4f}")


if __name__ == "__main__":
    main()
