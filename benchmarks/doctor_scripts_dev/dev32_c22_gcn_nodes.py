"""Semi-supervised node classification by a graph convolutional network, written without graph libraries."""

import argparse
import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


def community_graph(nodes=1000, classes=5, features=32, inside=0.03, between=0.003, seed=0):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (nodes,), generator=g)
    same = labels[:, None] == labels[None]
    chance = torch.where(same, torch.tensor(inside), torch.tensor(between))
    upper = torch.triu((torch.rand(nodes, nodes, generator=g) < chance).float(), diagonal=1)
    centers = torch.randn(classes, features, generator=g)
    x = 0.4 * centers[labels] + torch.randn(nodes, features, generator=g)
    return x, upper + upper.t(), labels


def normalize_adjacency(adjacency):
    with_loops = adjacency + torch.eye(len(adjacency))
    scale = with_loops.sum(1).rsqrt()
    return scale[:, None] * with_loops * scale[None]


class GraphConvolution(nn.Module):
    def __init__(self, fan_in, fan_out):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(fan_in, fan_out))
        self.bias = nn.Parameter(torch.zeros(fan_out))
        bound = math.sqrt(6 / (fan_in + fan_out))
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x, adjacency):
        return adjacency @ (x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, features, hidden, classes, dropout):
        super().__init__()
        self.gc1 = GraphConvolution(features, hidden)
        self.gc2 = GraphConvolution(hidden, classes)
        self.dropout = dropout

    def forward(self, x, adjacency):
        x = F.dropout(x, self.dropout, training=self.training)
        x = F.relu(self.gc1(x, adjacency))
        x = F.dropout(x, self.dropout, training=self.training)
        return self.gc2(x, adjacency)


def split(labels, per_class=20, val=200, seed=0):
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    train = torch.cat([order[labels[order] == c][:per_class] for c in labels.unique()])
    rest = order[~torch.isin(order, train)]
    return train, rest[:val], rest[val:]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.4)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    args = parser.parse_args()
    torch.manual_seed(42)

    x, adjacency, labels = community_graph()
    x = (x - x.mean(0)) / x.std(0)
    adjacency = normalize_adjacency(adjacency)
    train, val, test = split(labels)
    model = GCN(x.shape[1], args.hidden, int(labels.max()) + 1, args.dropout)
    optimizer = torch.optim.Adam(
        [
            {"params": model.gc1.parameters(), "weight_decay": args.weight_decay},
            {"params": model.gc2.parameters(), "weight_decay": 0.0},
        ],
        lr=args.lr,
    )
    best, best_state = 0.0, None
    for epoch in range(args.epochs):
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x, adjacency)[train], labels[train])
        loss.backward()
        optimizer.step()

        model.eval()
        with torch.no_grad():
            right = (model(x, adjacency).argmax(1) == labels).float()
        accuracy = right[val].mean().item()
        if accuracy > best:
            best, best_state = accuracy, copy.deepcopy(model.state_dict())
        if epoch % 20 == 19:
            print(f"Epoch {epoch + 1:04d} loss {loss.item():.4f} train {right[train].mean():.3f} val {accuracy:.3f}")

    model.load_state_dict(best_state)
    model.eval()
    with torch.no_grad():
        right = (model(x, adjacency).argmax(1) == labels).float()
    print(f"test accuracy {right[test].mean():.4f}")


if __name__ == "__main__":
    main()
