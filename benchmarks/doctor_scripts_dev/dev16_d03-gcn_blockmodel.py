"""Semi-supervised node classification (Kipf & Welling, 2017) on a stochastic block model.

    python d03-gcn_blockmodel.py --nodes 800 --blocks 4
"""
import argparse
import copy
import math

import torch
from torch import nn
from torch.nn import functional as F


def block_graph(nodes, blocks, p_in, p_out, width, gen):
    """Blocks as labels; features tell only a little about them, links the rest."""
    y = torch.randint(blocks, (nodes,), generator=gen)
    same = y[:, None] == y[None, :]
    p = torch.where(same, torch.tensor(p_in), torch.tensor(p_out))
    upper = torch.triu(torch.rand(nodes, nodes, generator=gen) < p, diagonal=1)
    adjacency = (upper | upper.T).float()
    centers = torch.randn(blocks, width, generator=gen)
    x = 0.45 * centers[y] + torch.randn(nodes, width, generator=gen)
    return x, y, adjacency


def normalized(adjacency):
    a = adjacency + torch.eye(len(adjacency))
    d = a.sum(1).rsqrt()
    return (d[:, None] * a * d[None, :]).to_sparse()


class GraphConvolution(nn.Module):
    def __init__(self, fan_in, fan_out):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(fan_in, fan_out))
        self.bias = nn.Parameter(torch.zeros(fan_out))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, a_hat):
        return torch.sparse.mm(a_hat, x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, features, hidden, classes, p):
        super().__init__()
        self.first = GraphConvolution(features, hidden)
        self.second = GraphConvolution(hidden, classes)
        self.p = p

    def forward(self, x, a_hat):
        x = F.dropout(x, self.p, self.training)
        x = F.relu(self.first(x, a_hat))
        x = F.dropout(x, self.p, self.training)
        return self.second(x, a_hat)


def split(y, per_class, n_val, gen):
    """`per_class` labelled nodes of each block, then validation, the rest is the test."""
    order = torch.randperm(len(y), generator=gen)
    train = torch.cat([order[y[order] == c][:per_class] for c in range(int(y.max()) + 1)])
    taken = torch.zeros(len(y), dtype=torch.bool)
    taken[train] = True
    rest = order[~taken[order]]
    return train, rest[:n_val], rest[n_val:]


@torch.no_grad()
def assess(model, x, a_hat, y, *parts):
    model.eval()
    out = model(x, a_hat)
    return [(F.cross_entropy(out[i], y[i]).item(), (out[i].argmax(1) == y[i]).float().mean().item()) for i in parts]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=800)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--patience", type=int, default=40)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    gen = torch.Generator().manual_seed(args.seed)
    x, y, adjacency = block_graph(args.nodes, args.blocks, 0.035, 0.004, 24, gen)
    train, val, test = split(y, 20, 150, gen)
    a_hat = normalized(adjacency)
    print(f"{args.nodes} nodes, {int(adjacency.sum()) // 2} links, {len(train)}/{len(val)}/{len(test)} nodes")

    model = GCN(x.shape[1], args.hidden, args.blocks, args.dropout)
    optimizer = torch.optim.Adam(
        [
            {"params": model.first.parameters(), "weight_decay": args.weight_decay},
            {"params": model.second.parameters(), "weight_decay": 0.0},
        ],
        lr=args.lr,
    )

    best, kept, waited = math.inf, None, 0
    for epoch in range(args.epochs):
        model.train()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x, a_hat)[train], y[train])
        loss.backward()
        optimizer.step()

        (val_loss, val_acc), = assess(model, x, a_hat, y, val)
        if val_loss < best:
            best, kept, waited = val_loss, copy.deepcopy(model.state_dict()), 0
        else:
            waited += 1
            if waited >= args.patience:
                print(f"stopped after epoch {epoch}")
                break
        if epoch % 25 == 0:
            print(f"{epoch:3d}  train {loss.item():.3f}  val {val_loss:.3f}  val acc {val_acc:.3f}")

    model.load_state_dict(kept)
    (_, val_acc), (_, test_acc) = assess(model, x, a_hat, y, val, test)
    print(f"kept epoch: validation accuracy {val_acc:.3f}, test accuracy {test_acc:.3f}, chance {1 / args.blocks:.2f}")


if __name__ == "__main__":
    main()
