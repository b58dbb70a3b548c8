"""Semi-supervised node classification with a graph convolutional network, after Kipf and Welling."""

import argparse
import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class Graph:
    """A graph of communities: features say a little of the class, neighbors say more."""

    def __init__(self, nodes=600, classes=4, features=24, seed=0):
        g = torch.Generator().manual_seed(seed)
        self.y = torch.arange(nodes) % classes
        centers = torch.randn(classes, features, generator=g)
        self.x = 0.5 * centers[self.y] + torch.randn(nodes, features, generator=g)
        same = self.y[:, None] == self.y[None, :]
        chance = torch.where(same, torch.tensor(0.03), torch.tensor(0.003))
        upper = torch.triu(torch.rand(nodes, nodes, generator=g) < chance, diagonal=1).float()
        self.adj = upper + upper.T
        order = torch.randperm(nodes, generator=g)
        self.train_mask = torch.zeros(nodes, dtype=torch.bool)
        self.val_mask = self.train_mask.clone()
        self.test_mask = self.train_mask.clone()
        self.train_mask[order[:200]] = True
        self.val_mask[order[200:350]] = True
        self.test_mask[order[350:]] = True
        self.num_classes = classes

    def normalized(self):
        a = self.adj + torch.eye(len(self.adj))
        d = a.sum(1).rsqrt()
        return d[:, None] * a * d[None, :]


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.reset_parameters()

    def reset_parameters(self):
        bound = math.sqrt(6.0 / sum(self.weight.shape))
        nn.init.uniform_(self.weight, -bound, bound)

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


def train(model, optimizer, graph, adj):
    model.train()
    optimizer.zero_grad()
    logits = model(graph.x, adj)
    loss = F.cross_entropy(logits[graph.train_mask], graph.y[graph.train_mask])
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def evaluate(model, graph, adj):
    model.eval()
    logits = model(graph.x, adj)
    pred = logits.argmax(dim=-1)
    accs = []
    for mask in (graph.train_mask, graph.val_mask, graph.test_mask):
        accs.append((pred[mask] == graph.y[mask]).float().mean().item())
    val_loss = F.cross_entropy(logits[graph.val_mask], graph.y[graph.val_mask]).item()
    return accs, val_loss


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight_decay", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    graph = Graph(seed=args.seed)
    adj = graph.normalized()
    model = GCN(graph.x.size(1), args.hidden, graph.num_classes, args.dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    best_val, best_state = float("inf"), None
    for epoch in range(1, args.epochs + 1):
        loss = train(model, optimizer, graph, adj)
        (train_acc, val_acc, _), val_loss = evaluate(model, graph, adj)
        if val_loss < best_val:
            best_val, best_state = val_loss, copy.deepcopy(model.state_dict())
        if epoch % 10 == 0:
            print(f"Epoch {epoch:03d}  loss {loss:.4f}  train {train_acc:.3f}  val {val_acc:.3f}")
    model.load_state_dict(best_state)
    accs, _ = evaluate(model, graph, adj)
    print(f"best: train {accs[0]:.3f}  val {accs[1]:.3f}  test {accs[2]:.3f}")


if __name__ == "__main__":
    main()
