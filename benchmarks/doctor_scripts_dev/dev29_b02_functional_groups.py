"""Graph classification with a GIN in plain PyTorch: which functional group hangs on the carbon skeleton?

The four groups hold the same three atoms in another order, so counting atoms does not help.
"""

import argparse
import copy
import math
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

ATOMS = "CNOS"
GROUPS = ["NOS", "ONS", "SON", "NSO"]


def random_molecule(label, rng):
    size = rng.randint(8, 16)
    atoms = [0] * size
    bonds = [(i, rng.randrange(max(0, i - 3), i)) for i in range(1, size)]
    for _ in range(rng.randint(0, 2)):  # rings
        bonds.append(tuple(rng.sample(range(size), 2)))
    for _ in range(rng.randint(1, 5)):  # single atoms on the side
        bonds.append((len(atoms), rng.randrange(size)))
        atoms.append(rng.randint(1, 3))
    anchor = rng.randrange(size)
    for symbol in GROUPS[label]:
        bonds.append((len(atoms), anchor))
        anchor = len(atoms)
        atoms.append(ATOMS.index(symbol))
    names = list(range(len(atoms)))
    rng.shuffle(names)
    x = torch.zeros(len(atoms), dtype=torch.long)
    for old, new in enumerate(names):
        x[new] = atoms[old]
    edges = [(names[a], names[b]) for a, b in bonds]
    edges += [(b, a) for a, b in edges]
    return x, torch.tensor(edges).t().contiguous()


def build(count, seed):
    rng = random.Random(seed)
    labels = [i * len(GROUPS) // count for i in range(count)]
    graphs = [random_molecule(label, rng) for label in labels]
    order = list(range(count))
    rng.shuffle(order)
    graphs = [graphs[i] for i in order]
    labels = [labels[i] for i in order]
    return list(zip(graphs, labels))


def collate(samples):
    """Several graphs as one big graph of unconnected parts; owner tells whose node each is."""
    xs, edges, owner, ys = [], [], [], []
    offset = 0
    for number, ((x, edge_index), y) in enumerate(samples):
        xs.append(x)
        edges.append(edge_index + offset)
        owner.append(torch.full((len(x),), number))
        ys.append(y)
        offset += len(x)
    return torch.cat(xs), torch.cat(edges, dim=1), torch.cat(owner), torch.tensor(ys)


class GINLayer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(1))
        self.mlp = nn.Sequential(
            nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(),
            nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(),
        )  # fmt: skip

    def forward(self, h, edge_index):
        source, target = edge_index
        messages = torch.zeros_like(h).index_add(0, target, h[source])
        return self.mlp((1 + self.eps) * h + messages)


class GIN(nn.Module):
    def __init__(self, width, depth, classes):
        super().__init__()
        self.embed = nn.Embedding(len(ATOMS), width)
        self.layers = nn.ModuleList([GINLayer(width) for _ in range(depth)])
        self.head = nn.Sequential(
            nn.BatchNorm1d(width * depth), nn.Linear(width * depth, width), nn.ReLU(),
            nn.Dropout(0.2), nn.Linear(width, classes),
        )  # fmt: skip

    def forward(self, x, edge_index, owner):
        h = self.embed(x)
        graphs = int(owner[-1]) + 1
        readouts = []
        for layer in self.layers:
            h = layer(h, edge_index)
            readouts.append(torch.zeros(graphs, h.shape[1]).index_add(0, owner, h))
        return self.head(torch.cat(readouts, dim=1))


def train(model, loader, optimizer):
    model.train()
    total = 0.0
    for x, edge_index, owner, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x, edge_index, owner), y)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    loss, correct, total = 0.0, 0, 0
    for x, edge_index, owner, y in loader:
        out = model(x, edge_index, owner)
        loss += F.cross_entropy(out, y, reduction="sum").item()
        correct += (out.argmax(dim=1) == y).sum().item()
        total += len(y)
    return loss / total, correct / total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    train_loader = DataLoader(build(3000, seed=1), args.batch_size, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(build(400, seed=2), 100, collate_fn=collate)
    test_loader = DataLoader(build(400, seed=3), 100, collate_fn=collate)

    model = GIN(args.width, args.depth, len(GROUPS))
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    best, best_state = math.inf, None
    for epoch in range(1, args.epochs + 1):
        train_loss = train(model, train_loader, optimizer)
        val_loss, val_acc = evaluate(model, valid_loader)
        if val_loss < best:
            best, best_state = val_loss, copy.deepcopy(model.state_dict())
        print(f"Epoch {epoch:03d}, train loss {train_loss:.4f}, val loss {val_loss:.4f}, val acc {val_acc:.4f}", flush=True)

    model.load_state_dict(best_state)
    print(f"Test accuracy of the chosen epoch: {evaluate(model, test_loader)[1]:.4f}")


if __name__ == "__main__":
    main()
