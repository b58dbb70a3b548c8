"""Graph classification with a Graph Isomorphism Network, in plain PyTorch."""
import argparse
import random
from collections import namedtuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

Graph = namedtuple("Graph", "x edge_index y")
Batch = namedtuple("Batch", "x edge_index batch y num_graphs")
KINDS = ("cycle", "star", "tree", "dense")


def make_graph(kind, rng, generator):
    n = rng.randint(8, 14)
    if kind == "cycle":
        edges = [(i, (i + 1) % n) for i in range(n)]
    elif kind == "star":
        edges = [(0, i) for i in range(1, n)]
    elif kind == "tree":
        edges = [(rng.randrange(max(0, i - 3), i), i) for i in range(1, n)]
    else:
        edges = [(i, j) for i in range(n) for j in range(i) if j == i - 1 or rng.random() < 0.4]
    names = list(range(n))
    rng.shuffle(names)
    pairs = [(names[a], names[b]) for a, b in edges]
    edge_index = torch.tensor(pairs + [(b, a) for a, b in pairs]).t().contiguous()
    degree = torch.bincount(edge_index[0], minlength=n).float()
    x = torch.cat([(degree[:, None] - 2.5) / 2, torch.randn(n, 3, generator=generator)], 1)
    return Graph(x, edge_index, KINDS.index(kind))


def make_graphs(per_kind, seed):
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    return [make_graph(kind, rng, generator) for kind in KINDS for _ in range(per_kind)]


def collate(graphs):
    """One large graph without edges between its parts."""
    offset, edges, assignment = 0, [], []
    for number, graph in enumerate(graphs):
        edges.append(graph.edge_index + offset)
        assignment += [number] * len(graph.x)
        offset += len(graph.x)
    return Batch(
        x=torch.cat([g.x for g in graphs]),
        edge_index=torch.cat(edges, 1),
        batch=torch.tensor(assignment),
        y=torch.tensor([g.y for g in graphs]),
        num_graphs=len(graphs),
    )


def global_mean_pool(x, batch, size):
    total = x.new_zeros(size, x.size(1)).index_add(0, batch, x)
    return total / torch.bincount(batch, minlength=size).clamp(min=1).unsqueeze(1)


class GINConv(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(1))
        self.mlp = nn.Sequential(
            nn.Linear(dim, dim), nn.BatchNorm1d(dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU()
        )

    def forward(self, x, edge_index):
        source, target = edge_index
        neighbors = torch.zeros_like(x).index_add(0, target, x[source])
        return self.mlp((1 + self.eps) * x + neighbors)


class GIN(nn.Module):
    """The graph is read out behind every layer (jumping knowledge)."""

    def __init__(self, in_dim, hidden, layers, classes, dropout):
        super().__init__()
        self.encoder = nn.Linear(in_dim, hidden)
        self.convs = nn.ModuleList(GINConv(hidden) for _ in range(layers))
        self.classifier = nn.Linear(hidden * layers, classes)
        self.dropout = dropout

    def forward(self, data):
        h, readouts = self.encoder(data.x), []
        for conv in self.convs:
            h = conv(h, data.edge_index)
            readouts.append(global_mean_pool(h, data.batch, data.num_graphs))
        out = F.dropout(torch.cat(readouts, 1), self.dropout, self.training)
        return self.classifier(out)


def train(model, loader, optimizer):
    model.train()
    total_loss = 0.0
    for data in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(data), data.y)
        loss.backward()
        optimizer.step()
        total_loss += loss.item() * data.num_graphs
    return total_loss / len(loader.dataset)


@torch.no_grad()
def test(model, loader):
    model.eval()
    total_correct, total = 0, 0
    for data in loader:
        pred = model(data).argmax(dim=-1)
        total_correct += int((pred == data.y).sum())
        total += data.num_graphs
    return total_correct / total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--per_kind", type=int, default=250)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--dropout", type=float, default=0.4)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()
    torch.manual_seed(12)

    graphs = make_graphs(args.per_kind, seed=12)
    random.Random(12).shuffle(graphs)
    cut = len(graphs) * 3 // 4
    train_graphs, test_graphs = graphs[:cut], graphs[cut:]
    train_loader = DataLoader(train_graphs, args.batch_size, shuffle=True, collate_fn=collate)
    test_loader = DataLoader(test_graphs, args.batch_size, collate_fn=collate)

    model = GIN(train_graphs[0].x.size(1), args.hidden, args.layers, len(KINDS), args.dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)
    for epoch in range(1, args.epochs + 1):
        loss = train(model, train_loader, optimizer)
        scheduler.step()
        print(f"Epoch {epoch:02d}, Loss: {loss:.4f}, Train: {test(model, train_loader):.4f}, "
              f"Test: {test(model, test_loader):.4f}")


if __name__ == "__main__":
    main()
