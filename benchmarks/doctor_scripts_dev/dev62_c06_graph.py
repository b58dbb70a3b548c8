"""Transductive node classification with a two-layer GCN on a stochastic block model."""

import argparse
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F


def block_model(nodes=600, classes=4, features=16, inside=0.03, outside=0.004, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (nodes,), generator=g)
    same = y[:, None] == y[None, :]
    probability = torch.where(same, torch.tensor(inside), torch.tensor(outside))
    upper = (torch.rand(nodes, nodes, generator=g) < probability).triu(1)
    adjacency = (upper | upper.T).float()
    centers = torch.randn(classes, features, generator=g)
    x = 0.5 * centers[y] + torch.randn(nodes, features, generator=g)
    order = torch.randperm(nodes, generator=g)
    masks = {}
    for name, part in zip(("train", "val", "test"), (order[:300], order[300:450], order[450:])):
        masks[name] = torch.zeros(nodes, dtype=torch.bool)
        masks[name][part] = True
    return SimpleNamespace(x=x, y=y, adj=normalize(adjacency), masks=masks, num_classes=classes)


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


def train(model, data, optimizer):
    model.train()
    optimizer.zero_grad()
    x, asked = data.x, data.masks["train"]
    output = model(x, data.adj)
    loss = F.nll_loss(output[asked], data.y[asked])
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def test(model, data):
    model.eval()
    x = data.x
    pred = model(x, data.adj).argmax(dim=1)
    accuracies = {}
    for split in ("val", "test"):
        mask = data.masks[split]
        accuracies[split] = (pred[mask] == data.y[mask]).float().mean().item()
    return accuracies


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight_decay", type=float, default=5e-4)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.3)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    data = block_model()
    nfeat = data.x.shape[1]
    model = GCN(nfeat, args.hidden, data.num_classes, args.dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)

    best_val = final_test = 0.0
    for epoch in range(1, args.epochs + 1):
        loss = train(model, data, optimizer)
        accuracies = test(model, data)
        if accuracies["val"] > best_val:
            best_val, final_test = accuracies["val"], accuracies["test"]
        if epoch % 10 == 0:
            print(f"Epoch: {epoch:03d}, Loss: {loss:.4f}, Val: {accuracies['val']:.4f}, Test: {accuracies['test']:.4f}")
    print(f"best val {best_val:.4f}, test there {final_test:.4f}")


if __name__ == "__main__":
    main()
