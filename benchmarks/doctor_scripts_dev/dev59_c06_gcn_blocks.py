"""Node classification in a graph of communities with a GCN (after pygcn)."""

import argparse
import math
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


def load_data(n=600, classes=4, n_feat=16, seed=0):
    """A stochastic block model; features are noisy, neighbors mostly share the class."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=g)
    same = labels[:, None] == labels[None, :]
    prob = torch.where(same, torch.tensor(0.05), torch.tensor(0.006))
    upper = torch.triu(torch.rand(n, n, generator=g) < prob, diagonal=1).float()
    adj = upper + upper.t()
    centers = torch.randn(classes, n_feat, generator=g)
    features = centers[labels] + 2.0 * torch.randn(n, n_feat, generator=g)
    features = (features - features.mean(0)) / features.std(0)
    order = torch.randperm(n, generator=g)
    return normalize_adj(adj + torch.eye(n)), features, labels, order[:240], order[240:360], order[360:]


def normalize_adj(adj):
    inv_sqrt = adj.sum(1).pow(-0.5)
    return inv_sqrt[:, None] * adj * inv_sqrt[None, :]


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.reset_parameters()

    def reset_parameters(self):
        bound = math.sqrt(6.0 / (self.weight.size(0) + self.weight.size(1)))
        self.weight.data.uniform_(-bound, bound)

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
        x = self.gc2(x, adj)
        return F.log_softmax(x, dim=1)




def accuracy(output, labels):
    return (output.argmax(1) == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight_decay", type=float, default=5e-4)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.3)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    adj, features, labels, idx_train, idx_val, idx_test = load_data()
    nclass = int(labels.max()) + 1
    inputs = features

    model = GCN(nfeat=inputs.shape[1], nhid=args.hidden, nclass=nclass, dropout=args.dropout)
    optimizer = torch.optim.Adam(
        [
            {"params": model.gc1.parameters(), "weight_decay": args.weight_decay},
            {"params": model.gc2.parameters(), "weight_decay": 0.0},
        ],
        lr=args.lr,
    )

    def train(epoch):
        t = time.time()
        model.train()
        optimizer.zero_grad()
        output = model(inputs, adj)
        loss_train = F.nll_loss(output[idx_train], labels[idx_train])
        loss_train.backward()
        optimizer.step()

        model.eval()
        with torch.no_grad():
            output = model(inputs, adj)
            loss_val = F.nll_loss(output[idx_val], labels[idx_val])
        if epoch % 15 == 0:
            print(
                f"Epoch: {epoch + 1:04d} loss_train: {loss_train.item():.4f} loss_val: {loss_val.item():.4f}"
                f" acc_val: {accuracy(output[idx_val], labels[idx_val]):.4f} time: {time.time() - t:.4f}s"
            )

    @torch.no_grad()
    def test():
        model.eval()
        output = model(inputs, adj)
        loss_test = F.nll_loss(output[idx_test], labels[idx_test])
        print(f"Test set results: loss= {loss_test.item():.4f} accuracy= {accuracy(output[idx_test], labels[idx_test]):.4f}")

    for epoch in range(args.epochs):
        train(epoch)
    print("Optimization Finished!")
    test()


if __name__ == "__main__":
    main()
