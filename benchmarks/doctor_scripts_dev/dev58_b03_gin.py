"""Graph classification with a graph isomorphism network, batches as one graph of many parts (powerful-gnns idiom)."""

import argparse
import random
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset

NUM_ATOMS = 4
KINDS = ("ring", "star", "clique")


@dataclass
class Graph:
    x: torch.Tensor
    edge_index: torch.Tensor
    y: int


@dataclass
class Batch:
    x: torch.Tensor
    edge_index: torch.Tensor
    graph_id: torch.Tensor
    y: torch.Tensor
    num_graphs: int


def make_graph(kind, rng):
    n = rng.randint(7, 12)
    if kind == 0:
        edges = [(i, (i + 1) % n) for i in range(n)]
    elif kind == 1:
        edges = [(0, i) for i in range(1, n)]
    else:
        size = n // 2 + 1
        edges = [(i, j) for i in range(size) for j in range(i)] + [(i - 1, i) for i in range(size, n)]
    edges = edges + [tuple(rng.sample(range(n), 2)) for _ in range(rng.randint(0, 3))]
    order = rng.sample(range(n), n)
    pairs = {(order[a], order[b]) for a, b in edges} | {(order[b], order[a]) for a, b in edges}
    atoms = torch.tensor([rng.randrange(NUM_ATOMS) for _ in range(n)])
    x = F.one_hot(atoms, NUM_ATOMS).float()
    return Graph(x, torch.tensor(sorted(pairs)).t().contiguous(), kind)


def load_data(per_class, seed):
    rng = random.Random(seed)
    return [make_graph(kind, rng) for kind in range(len(KINDS)) for _ in range(per_class)]


def separate_data(graphs, valid_share, seed):
    """Stratified: the same share of each kind is kept for validation."""
    rng = random.Random(seed)
    train_idx, valid_idx = [], []
    for kind in range(len(KINDS)):
        members = [i for i, graph in enumerate(graphs) if graph.y == kind]
        rng.shuffle(members)
        cut = int(len(members) * valid_share)
        valid_idx += members[:cut]
        train_idx += members[cut:]
    return train_idx, valid_idx


def collate(graphs):
    xs, edges, ids, offset = [], [], [], 0
    for i, graph in enumerate(graphs):
        xs.append(graph.x)
        edges.append(graph.edge_index + offset)
        ids.append(torch.full((graph.x.size(0),), i))
        offset += graph.x.size(0)
    labels = torch.tensor([graph.y for graph in graphs])
    return Batch(torch.cat(xs), torch.cat(edges, 1), torch.cat(ids), labels, len(graphs))


def make_loader(graphs, indices, split, batch_size):
    return DataLoader(Subset(graphs, indices), batch_size=batch_size, shuffle=split == "train", collate_fn=collate)


class GINLayer(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(1))
        self.mlp = nn.Sequential(nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.ReLU(),
                                 nn.Linear(hidden, hidden))
        self.norm = nn.BatchNorm1d(hidden)

    def forward(self, h, edge_index):
        source, target = edge_index
        pooled = torch.zeros_like(h).index_add_(0, target, h[source])
        return F.relu(self.norm(self.mlp((1 + self.eps) * h + pooled)))


class GIN(nn.Module):
    def __init__(self, num_features, num_classes, hidden=32, num_layers=3, dropout=0.2):
        super().__init__()
        self.embed = nn.Linear(num_features, hidden)
        self.layers = nn.ModuleList([GINLayer(hidden) for _ in range(num_layers)])
        self.dropout = nn.Dropout(dropout)
        self.predict = nn.Linear(hidden * num_layers, num_classes)

    def forward(self, batch):
        h, readouts = self.embed(batch.x), []
        counts = torch.bincount(batch.graph_id, minlength=batch.num_graphs).unsqueeze(1)
        for layer in self.layers:
            h = layer(h, batch.edge_index)
            sums = torch.zeros(batch.num_graphs, h.size(1)).index_add_(0, batch.graph_id, h)
            readouts.append(sums / counts)
        return self.predict(self.dropout(torch.cat(readouts, dim=1)))


def train(model, loader, optimizer):
    model.train()
    loss_accum, seen = 0.0, 0
    for batch in loader:
        loss = F.cross_entropy(model(batch), batch.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_accum += loss.item() * batch.num_graphs
        seen += batch.num_graphs
    return loss_accum / seen


def test(model, loader):
    model.eval()
    correct = total = 0
    with torch.no_grad():
        for batch in loader:
            pred = model(batch).argmax(dim=1)
            correct += (pred == batch.y).sum().item()
            total += batch.num_graphs
    return correct / total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    graphs = load_data(per_class=250, seed=args.seed)
    train_idx, valid_idx = separate_data(graphs, 0.2, args.seed)
    train_loader = make_loader(graphs, train_idx, "train", args.batch_size)
    valid_loader = make_loader(graphs, valid_idx, "valid", args.batch_size)
    model = GIN(NUM_ATOMS, len(KINDS))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
    for epoch in range(1, args.epochs + 1):
        loss = train(model, train_loader, optimizer)
        scheduler.step()
        print(f"epoch: {epoch} loss training: {loss:.4f} accuracy valid: {test(model, valid_loader):.4f}")


if __name__ == "__main__":
    main()
