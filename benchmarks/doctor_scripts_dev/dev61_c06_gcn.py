"""Semi-supervised classification of nodes with a GCN, in the manner of tkipf/pygcn."""
import argparse
import math
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


def load_data(nodes=600, classes=4, features=16, p_in=0.04, p_out=0.006, seed=0):
    """A stochastic block model whose nodes have noisy features."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (nodes,), generator=generator)
    centers = torch.randn(classes, features, generator=generator)
    x = 0.5 * centers[labels] + torch.randn(nodes, features, generator=generator)
    same = labels[:, None] == labels[None, :]
    probability = torch.where(same, torch.tensor(p_in), torch.tensor(p_out))
    upper = torch.triu(torch.rand(nodes, nodes, generator=generator) < probability, diagonal=1)
    adjacency = (upper | upper.T).float()
    order = torch.randperm(nodes, generator=generator)
    idx_train, idx_val, idx_test = order[:240], order[240:400], order[400:]
    return normalize(adjacency), x, labels, idx_train, idx_val, idx_test


def normalize(adjacency):
    """D^-1/2 (A + I) D^-1/2, sparse."""
    adjacency = adjacency + torch.eye(len(adjacency))
    scale = adjacency.sum(1).rsqrt()
    return (scale[:, None] * adjacency * scale[None, :]).to_sparse()


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.reset_parameters()

    def reset_parameters(self):
        bound = math.sqrt(6.0 / sum(self.weight.shape))
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x, adj):
        return torch.sparse.mm(adj, x @ self.weight) + self.bias


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
    return (output.argmax(1) == labels).float().mean().item()


def with_labels(features, labels, known, classes):
    """Features, and one-hot labels of the nodes in `known` (zeros for all others)."""
    given = torch.zeros(len(features), classes)
    given[known] = F.one_hot(labels[known], classes).float()
    return torch.cat([features, given], dim=1)


def train_step(model, optimizer, features, adj, labels, idx_train, nclass):
    model.train()
    optimizer.zero_grad()
    inputs, idx_loss = features, idx_train
    output = model(inputs, adj)
    loss_train = F.nll_loss(output[idx_loss], labels[idx_loss])
    loss_train.backward()
    optimizer.step()
    return loss_train.item(), accuracy(output[idx_loss], labels[idx_loss])


@torch.no_grad()
def evaluate(model, features, adj, labels, idx_train, idx, nclass):
    model.eval()
    inputs = features
    output = model(inputs, adj)
    return F.nll_loss(output[idx], labels[idx]).item(), accuracy(output[idx], labels[idx])


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
    nfeat = features.shape[1]
    model = GCN(nfeat=nfeat, nhid=args.hidden, nclass=nclass, dropout=args.dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)

    best_val, best_state = float("inf"), None
    start = time.time()
    for epoch in range(args.epochs):
        loss, acc = train_step(model, optimizer, features, adj, labels, idx_train, nclass)
        loss_val, acc_val = evaluate(model, features, adj, labels, idx_train, idx_val, nclass)
        if loss_val < best_val:
            best_val = loss_val
            best_state = {name: value.clone() for name, value in model.state_dict().items()}
        if (epoch + 1) % 10 == 0:
            print(
                f"Epoch: {epoch + 1:04d} loss_train: {loss:.4f} acc_train: {acc:.4f} "
                f"loss_val: {loss_val:.4f} acc_val: {acc_val:.4f}"
            )
    print(f"Optimization finished in {time.time() - start:.2f} s")
    model.load_state_dict(best_state)
    loss_test, acc_test = evaluate(model, features, adj, labels, idx_train, idx_test, nclass)
    print(f"Test set results: loss= {loss_test:.4f} accuracy= {acc_test:.4f}")


if __name__ == "__main__":
    main()
