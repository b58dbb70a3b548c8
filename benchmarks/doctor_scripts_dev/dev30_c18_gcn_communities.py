"""Graph convolution: four communities of a random graph, of which 10 % of the nodes are labeled (full batch, transductive)."""

import argparse
import copy

import torch
import torch.nn.functional as F
from torch import nn


def make_graph(nodes, classes=4, features=16, inside=0.04, outside=0.006, seed=0):
    """Stochastic block model; the features alone do not tell the class well."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (nodes,), generator=rng)
    same = labels[:, None] == labels[None, :]
    chance = torch.where(same, torch.tensor(inside), torch.tensor(outside))
    upper = torch.triu(torch.rand(nodes, nodes, generator=rng) < chance, diagonal=1)
    adjacency = (upper | upper.T).float()
    means = torch.randn(classes, features, generator=rng)
    x = 0.4 * means[labels] + torch.randn(nodes, features, generator=rng)
    order = torch.randperm(nodes, generator=rng)
    train, val, test = order[: nodes // 10], order[nodes // 10 : 3 * nodes // 10], order[3 * nodes // 10 :]
    return x, adjacency, labels, train, val, test


def normalize(adjacency):
    adjacency = adjacency + torch.eye(len(adjacency))
    scale = adjacency.sum(1).rsqrt()
    return scale[:, None] * adjacency * scale[None, :]


class GraphConv(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.linear.weight)

    def forward(self, x, adjacency):
        return adjacency @ self.linear(x) + self.bias


class GCN(nn.Module):
    def __init__(self, inputs, hidden, classes, dropout):
        super().__init__()
        self.conv1, self.conv2 = GraphConv(inputs, hidden), GraphConv(hidden, classes)
        self.dropout = dropout

    def forward(self, x, adjacency):
        x = F.dropout(x, self.dropout, training=self.training)
        x = F.relu(self.conv1(x, adjacency))
        x = F.dropout(x, self.dropout, training=self.training)
        return self.conv2(x, adjacency)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", type=int, default=1200)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--dropout", type=float, default=0.4)
    args = parser.parse_args()
    torch.manual_seed(42)

    x, adjacency, labels, train, val, test = make_graph(args.nodes)
    adjacency = normalize(adjacency)
    model = GCN(x.shape[1], args.hidden, 4, args.dropout)
    optimizer = torch.optim.Adam(
        [
            {"params": model.conv1.parameters(), "weight_decay": args.weight_decay},
            {"params": model.conv2.parameters(), "weight_decay": 0.0},
        ],
        lr=args.lr,
    )

    def train_step():
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x, adjacency)[train], labels[train])
        loss.backward()
        optimizer.step()
        return loss.item()

    @torch.no_grad()
    def evaluate():
        model.eval()
        right = (model(x, adjacency).argmax(1) == labels).float()
        return [right[part].mean().item() for part in (train, val, test)]

    best_val, best_state = -1.0, None
    for epoch in range(1, args.epochs + 1):
        loss = train_step()
        if epoch % 20 == 0:
            train_accuracy, val_accuracy, _ = evaluate()
            if val_accuracy > best_val:
                best_val, best_state = val_accuracy, copy.deepcopy(model.state_dict())
            print(f"epoch {epoch:4d}, loss {loss:.4f}, train {train_accuracy:.3f}, val {val_accuracy:.3f}")
    model.load_state_dict(best_state)
    print(f"test accuracy of the best epoch: {evaluate()[2]:.3f}")


if __name__ == "__main__":
    main()
