"""Graph classification with GIN (Xu et al. 2019), batches of graphs as one big graph, no library: rings, trees, clusters, grids."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader


def ring(n, g):
    edges = [(i, (i + 1) % n) for i in range(n)]
    for _ in range(max(1, n // 8)):  # a few chords
        a, b = torch.randint(0, n, (2,), generator=g).tolist()
        if a != b:
            edges.append((a, b))
    return edges


def tree(n, g):
    return [(int(torch.randint(0, i, (1,), generator=g)), i) for i in range(1, n)]


def clusters(n, g):
    """Two dense halves, one bridge."""
    half, edges = n // 2, [(0, n // 2)]
    for part in (range(half), range(half, n)):
        edges += [(a, b) for a in part for b in part if a < b and torch.rand((), generator=g) < 0.5]
    return edges


def grid(n, g):
    width = int(torch.randint(3, 5, (1,), generator=g))
    return [(i, i + 1) for i in range(n - 1) if (i + 1) % width] + [(i, i + width) for i in range(n - width)]


MAKERS = (ring, tree, clusters, grid)


def make_graph(label, g):
    """A graph with permuted nodes and 10 % of its edges lost; the features of a node are its degree, as in TU data, and noise."""
    n = int(torch.randint(10, 21, (1,), generator=g))
    edges = MAKERS[label](n, g)
    kept = [e for e in set(edges) if torch.rand((), generator=g) > 0.1] or edges[:1]
    edge = torch.randperm(n, generator=g)[torch.tensor(kept)]
    edge_index = torch.cat([edge, edge.flip(1)]).T
    degree = torch.bincount(edge_index[0], minlength=n).clamp(max=7)
    x = torch.cat([F.one_hot(degree, 8).float(), torch.randn(n, 2, generator=g)], 1)
    return x, edge_index, label


def make_dataset(count, seed):
    g = torch.Generator().manual_seed(seed)
    return [make_graph(int(torch.randint(0, 4, (1,), generator=g)), g) for _ in range(count)]


def collate(graphs):
    offset, xs, edges, batch = 0, [], [], []
    for i, (x, edge_index, _) in enumerate(graphs):
        xs.append(x)
        edges.append(edge_index + offset)
        batch.append(torch.full((len(x),), i))
        offset += len(x)
    return torch.cat(xs), torch.cat(edges, 1), torch.cat(batch), torch.tensor([label for *_, label in graphs])


class GINConv(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(1))
        self.mlp = nn.Sequential(nn.Linear(cin, cout), nn.BatchNorm1d(cout), nn.ReLU(), nn.Linear(cout, cout))

    def forward(self, x, edge_index):
        source, target = edge_index
        neighbors = torch.zeros_like(x).index_add_(0, target, x[source])
        return self.mlp((1 + self.eps) * x + neighbors)


class GIN(nn.Module):
    def __init__(self, features=10, hidden=48, classes=4, layers=4, dropout=0.3):
        super().__init__()
        self.convs = nn.ModuleList([GINConv(features if i == 0 else hidden, hidden) for i in range(layers)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(hidden) for _ in range(layers)])
        self.jump = nn.Linear(layers * hidden, hidden)
        self.out = nn.Linear(hidden, classes)
        self.dropout = dropout

    def forward(self, x, edge_index, batch, num_graphs):
        readouts = []
        for conv, norm in zip(self.convs, self.norms):
            x = F.relu(norm(conv(x, edge_index)))
            pooled = x.new_zeros(num_graphs, x.size(1)).index_add_(0, batch, x)
            sizes = torch.bincount(batch, minlength=num_graphs).clamp(min=1)[:, None]
            readouts.append(pooled / sizes)
        h = F.relu(self.jump(torch.cat(readouts, 1)))  # jumping knowledge
        return self.out(F.dropout(h, p=self.dropout, training=self.training))


def train(model, loader, optimizer):
    model.train()
    total = count = 0
    for x, edge_index, batch, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x, edge_index, batch, len(y)), y)
        loss.backward()
        optimizer.step()
        total, count = total + loss.item() * len(y), count + len(y)
    return total / count


@torch.no_grad()
def test(model, loader):
    model.eval()
    correct = count = 0
    for x, edge_index, batch, y in loader:
        correct += int((model(x, edge_index, batch, len(y)).argmax(-1) == y).sum())
        count += len(y)
    return correct / count


def main():
    torch.manual_seed(12345)
    train_set, val_set, test_set = make_dataset(4500, 0), make_dataset(300, 1), make_dataset(300, 2)
    train_loader = DataLoader(train_set, batch_size=40, shuffle=True, collate_fn=collate)
    val_loader = DataLoader(val_set, batch_size=150, collate_fn=collate)
    test_loader = DataLoader(test_set, batch_size=150, collate_fn=collate)
    model = GIN()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.4)
    best_val = test_acc = 0.0
    for epoch in range(1, 31):
        loss = train(model, train_loader, optimizer)
        val_acc = test(model, val_loader)
        scheduler.step()
        if val_acc > best_val:
            best_val, test_acc = val_acc, test(model, test_loader)
        print(f"Epoch: {epoch:03d}, Loss: {loss:.4f}, Val: {val_acc:.4f}, Test at best val: {test_acc:.4f}")


if __name__ == "__main__":
    main()
