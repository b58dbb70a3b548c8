"""Node classification: a graph network on a graph of four communities, all nodes at once, labels of some."""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F


def make_graph(nodes=3000, classes=4, inside=0.0085, outside=0.0012, seed=0):
    """Edges are likelier within a class; the features of a node alone say little of it."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (nodes,), generator=g)
    probability = torch.where(labels[:, None] == labels[None, :], inside, outside)
    upper = torch.triu(torch.rand(nodes, nodes, generator=g) < probability, diagonal=1)
    source, target = upper.nonzero(as_tuple=True)
    edges = torch.stack([torch.cat([source, target]), torch.cat([target, source])])
    centers = torch.randn(classes, 32, generator=g) * 0.22
    features = centers[labels] + torch.randn(nodes, 32, generator=g)
    return features, edges, labels


def adjacency(edges, nodes):
    """D^-1/2 (A + I) D^-1/2 as a sparse matrix."""
    loops = torch.arange(nodes).expand(2, -1)
    edges = torch.cat([edges, loops], dim=1)
    degree = torch.bincount(edges[0], minlength=nodes).float()
    values = degree[edges[0]].rsqrt() * degree[edges[1]].rsqrt()
    return torch.sparse_coo_tensor(edges, values, (nodes, nodes)).coalesce()


def drop_edges(edges, share):
    """Edges come in both directions in two halves: a pair stays or goes as a whole."""
    half = edges.shape[1] // 2
    keep = torch.rand(half) >= share
    return edges[:, keep.repeat(2)]


class GraphConv(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adj):
        return torch.sparse.mm(adj, x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, inputs, hidden, classes, dropout):
        super().__init__()
        self.first = GraphConv(inputs, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.second = GraphConv(hidden, hidden)
        self.out = nn.Linear(2 * hidden, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, adj):
        a = self.dropout(F.relu(self.norm(self.first(x, adj))))
        b = self.dropout(F.relu(self.second(a, adj)))
        return self.out(torch.cat([a, b], dim=1))  # jumping knowledge


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.4)
    parser.add_argument("--drop-edge", type=float, default=0.2)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--patience", type=int, default=250)
    args = parser.parse_args()

    torch.manual_seed(12)
    features, edges, labels = make_graph()
    nodes = len(labels)
    order = torch.randperm(nodes)
    train, valid, test = order[:1200], order[1200:2100], order[2100:]
    features = (features - features.mean(0)) / features.std(0)
    whole = adjacency(edges, nodes)

    model = GCN(features.shape[1], args.hidden, 4, args.dropout)
    optimizer = torch.optim.Adam([
        {"params": model.first.parameters(), "weight_decay": 5e-4},
        {"params": [*model.norm.parameters(), *model.second.parameters(), *model.out.parameters()]},
    ], lr=args.lr)

    best, best_epoch, best_state = 0.0, 0, None
    for epoch in range(args.epochs):
        model.train()
        # all nodes pass their features on, labels are taken of training nodes only
        logits = model(features, adjacency(drop_edges(edges, args.drop_edge), nodes))
        loss = F.cross_entropy(logits[train], labels[train])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        model.eval()
        with torch.no_grad():
            predicted = model(features, whole).argmax(dim=1)
        accuracy = (predicted[valid] == labels[valid]).float().mean().item()
        print(f"epoch {epoch:3d} loss {loss.item():.4f} valid {accuracy:.4f}")
        if accuracy > best:
            best, best_epoch = accuracy, epoch
            best_state = {k: v.clone() for k, v in model.state_dict().items()}
        elif epoch - best_epoch > args.patience and epoch >= 350:
            print("no better for long: stop")
            break

    model.load_state_dict(best_state)
    model.eval()
    with torch.no_grad():
        predicted = model(features, whole).argmax(dim=1)
    print(f"best epoch {best_epoch}: valid {best:.4f} test {(predicted[test] == labels[test]).float().mean():.4f}")


if __name__ == "__main__":
    main()
