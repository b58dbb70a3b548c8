"""Semi-supervised node classification with a graph convolutional network, after pygcn."""

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

SIZES = (260, 160, 110, 70)


def normalize(adj):
    """Symmetrically: D^-1/2 (A + I) D^-1/2."""
    adj = adj + torch.eye(adj.size(0))
    scale = adj.sum(1).pow(-0.5)
    return scale[:, None] * adj * scale[None, :]


def load_data(n_features=16, p_in=0.05, p_out=0.004, seed=7):
    """A stochastic block model, with features that say something of the class, too."""
    rng = np.random.RandomState(seed)
    labels = rng.permutation(np.repeat(np.arange(len(SIZES)), SIZES))
    same = labels[:, None] == labels[None, :]
    upper = np.triu(rng.rand(len(labels), len(labels)) < np.where(same, p_in, p_out), 1)
    adj = torch.from_numpy((upper | upper.T).astype(np.float32))
    means = 0.5 * rng.randn(len(SIZES), n_features)
    features = means[labels] + rng.randn(len(labels), n_features)

    perm = torch.from_numpy(rng.permutation(len(labels)))
    idx_train = perm[:240]
    idx_val = perm[240:400]
    idx_test = perm[400:]
    features = torch.from_numpy(features).float()
    return normalize(adj), features, torch.from_numpy(labels).long(), idx_train, idx_val, idx_test


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features, bias=True):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(torch.empty(in_features, out_features))
        if bias:
            self.bias = Parameter(torch.empty(out_features))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self):
        stdv = 1.0 / math.sqrt(self.weight.size(1))
        self.weight.data.uniform_(-stdv, stdv)
        if self.bias is not None:
            self.bias.data.uniform_(-stdv, stdv)

    def forward(self, x, adj):
        output = torch.mm(adj, torch.mm(x, self.weight))
        return output if self.bias is None else output + self.bias

    def __repr__(self):
        return f"{type(self).__name__} ({self.in_features} -> {self.out_features})"


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super().__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = GraphConvolution(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        x = self.gc2(x, adj)
        return F.log_softmax(x, dim=1)


def accuracy(output, labels):
    preds = output.argmax(dim=1)
    return preds.eq(labels).float().mean().item()


def balanced_accuracy(output, labels):
    preds = output.argmax(dim=1)
    recalls = [preds[labels == k].eq(k).float().mean().item() for k in labels.unique().tolist()]
    return sum(recalls) / len(recalls)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=42, help="Random seed.")
    parser.add_argument("--epochs", type=int, default=120, help="Number of epochs to train.")
    parser.add_argument("--lr", type=float, default=0.02, help="Initial learning rate.")
    parser.add_argument("--weight_decay", type=float, default=5e-4, help="L2 loss on parameters.")
    parser.add_argument("--hidden", type=int, default=16, help="Number of hidden units.")
    parser.add_argument("--dropout", type=float, default=0.3, help="Dropout rate.")
    args = parser.parse_args()

    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    adj, features, labels, idx_train, idx_val, idx_test = load_data()
    nclass = int(labels.max()) + 1
    counts = torch.bincount(labels[idx_train], minlength=nclass).float()
    class_weights = counts.sum() / (nclass * counts)

    model = GCN(features.size(1), args.hidden, nclass, args.dropout)
    optimizer = optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    best = {"val": 0.0, "epoch": -1, "state": None}

    def train(epoch):
        t = time.time()
        model.train()
        optimizer.zero_grad()
        output = model(features, adj)
        loss_train = F.nll_loss(output[idx_train], labels[idx_train], weight=class_weights)
        acc_train = accuracy(output[idx_train], labels[idx_train])
        loss_train.backward()
        optimizer.step()

        model.eval()
        with torch.no_grad():
            output = model(features, adj)
        loss_val = F.nll_loss(output[idx_val], labels[idx_val], weight=class_weights).item()
        acc_val = balanced_accuracy(output[idx_val], labels[idx_val])
        if acc_val > best["val"]:
            best.update(val=acc_val, epoch=epoch, state=copy.deepcopy(model.state_dict()))
        if (epoch + 1) % 20 == 0:
            print(
                f"Epoch: {epoch + 1:04d} loss_train: {loss_train.item():.4f} acc_train: {acc_train:.4f} "
                f"loss_val: {loss_val:.4f} acc_val: {acc_val:.4f} time: {time.time() - t:.4f}s"
            )

    @torch.no_grad()
    def test():
        model.load_state_dict(best["state"])
        model.eval()
        output = model(features, adj)
        print(
            f"Test (epoch {best['epoch'] + 1}): accuracy {accuracy(output[idx_test], labels[idx_test]):.4f}, "
            f"balanced {balanced_accuracy(output[idx_test], labels[idx_test]):.4f}"
        )

    for epoch in range(args.epochs):
        train(epoch)
    test()


if __name__ == "__main__":
    main()
