"""Node classification with a graph convolutional network, after tkipf/pygcn and the Planetoid examples."""

import argparse
import time
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F


def make_graph(nodes=600, classes=4, features=24, seed=0):
    """A stochastic block model whose nodes also have noisy features."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, (nodes,), generator=generator)
    centers = torch.randn(classes, features, generator=generator)
    x = 0.5 * centers[y] + torch.randn(nodes, features, generator=generator)

    same = y[:, None] == y[None, :]
    chance = torch.where(same, torch.tensor(0.03), torch.tensor(0.004))
    upper = (torch.rand(nodes, nodes, generator=generator) < chance).triu(1)
    adj = (upper | upper.t()).float() + torch.eye(nodes)
    degree = adj.sum(1)
    adj = adj / (degree[:, None] * degree[None, :]).sqrt()

    order = torch.randperm(nodes, generator=generator)
    masks = []
    for part in (order[:300], order[300:450], order[450:]):
        mask = torch.zeros(nodes, dtype=torch.bool)
        mask[part] = True
        masks.append(mask)
    x = (x - x.mean(0)) / x.std(0)
    return SimpleNamespace(x=x, y=y, adj=adj, classes=classes, train_mask=masks[0], val_mask=masks[1], test_mask=masks[2])


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adj):
        return adj @ (x @ self.weight) + self.bias


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
        return self.gc2(x, adj)


def accuracy(logits, labels):
    return (logits.argmax(dim=1) == labels).float().mean().item()


def train_step(model, optimizer, data):
    model.train()
    optimizer.zero_grad()
    logits = model(data.x, data.adj)
    loss = F.cross_entropy(logits[data.train_mask], data.y[data.train_mask])
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def evaluate(model, data):
    model.eval()
    logits = model(data.x, data.adj)
    val_loss = F.cross_entropy(logits[data.val_mask], data.y[data.val_mask]).item()
    val_acc = accuracy(logits[data.val_mask], data.y[data.val_mask])
    test_acc = accuracy(logits[data.test_mask], data.y[data.test_mask])
    return val_loss, val_acc, test_acc


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight_decay", type=float, default=5e-4)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--print_every", type=int, default=15)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    data = make_graph()
    model = GCN(data.x.shape[1], args.hidden, data.classes, args.dropout)
    optimizer = torch.optim.Adam(
        [
            {"params": model.gc1.parameters(), "weight_decay": args.weight_decay},
            {"params": model.gc2.parameters(), "weight_decay": 0.0},
        ],
        lr=args.lr,
    )

    start = time.time()
    best_val_acc = test_at_best = 0.0
    for epoch in range(1, args.epochs + 1):
        loss = train_step(model, optimizer, data)
        val_loss, val_acc, test_acc = evaluate(model, data)
        if val_acc > best_val_acc:
            best_val_acc, test_at_best = val_acc, test_acc
        if epoch % args.print_every == 0:
            print(f"Epoch {epoch:03d} loss {loss:.4f} val loss {val_loss:.4f} val acc {val_acc:.3f} test acc {test_acc:.3f}")
    print(f"{time.time() - start:.1f}s, best val {best_val_acc:.3f}, test there {test_at_best:.3f}")


if __name__ == "__main__":
    main()
