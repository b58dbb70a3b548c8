"""Semi-supervised node classification with a graph convolutional network (Kipf & Welling), in the manner of pygcn."""

import argparse
import math
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.nn.parameter import Parameter


class Graph:
    """One graph: features, labels, normalized adjacency, and masks of the parts."""

    def __init__(self, x, y, adj, train_mask, val_mask, test_mask):
        self.x, self.y, self.adj = x, y, adj
        self.train_mask, self.val_mask, self.test_mask = train_mask, val_mask, test_mask


def normalize(adj):
    adj = adj + torch.eye(adj.size(0))
    inv_sqrt = adj.sum(1).pow(-0.5)
    return inv_sqrt[:, None] * adj * inv_sqrt[None, :]


def make_graph(nodes=600, classes=4, features=32, p_in=0.03, p_out=0.004, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, (nodes,), generator=g)
    prob = torch.where(y[:, None] == y[None, :], torch.tensor(p_in), torch.tensor(p_out))
    upper = torch.triu((torch.rand(nodes, nodes, generator=g) < prob).float(), diagonal=1)
    adj = upper + upper.t()
    centers = torch.randn(classes, features, generator=g)
    x = 0.5 * centers[y] + torch.randn(nodes, features, generator=g)
    order = torch.randperm(nodes, generator=g)
    masks = [torch.zeros(nodes, dtype=torch.bool) for _ in range(3)]
    for mask, index in zip(masks, order.split([240, 160, 200])):
        mask[index] = True
    return Graph(x, y, normalize(adj), *masks)


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = Parameter(torch.empty(in_features, out_features))
        self.bias = Parameter(torch.empty(out_features))
        self.reset_parameters()

    def reset_parameters(self):
        stdv = 1.0 / math.sqrt(self.weight.size(1))
        self.weight.data.uniform_(-stdv, stdv)
        self.bias.data.uniform_(-stdv, stdv)

    def forward(self, input, adj):
        support = torch.mm(input, self.weight)
        output = torch.mm(adj, support)
        return output + self.bias


class GCN(nn.Module):
    def __init__(self, nfeat, nhid, nclass, dropout):
        super().__init__()
        self.gc1 = GraphConvolution(nfeat, nhid)
        self.gc2 = GraphConvolution(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        return self.gc2(x, adj)


def accuracy(output, labels):
    return (output.argmax(1) == labels).float().mean().item()


def train(model, optimizer, graph, targets):
    model.train()
    optimizer.zero_grad()
    output = model(graph.x, graph.adj)
    loss = F.cross_entropy(output[graph.train_mask], targets[graph.train_mask])
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def evaluate(model, graph, mask):
    model.eval()
    output = model(graph.x, graph.adj)
    return F.cross_entropy(output[mask], graph.y[mask]).item(), accuracy(output[mask], graph.y[mask])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=42, help="Random seed.")
    parser.add_argument("--epochs", type=int, default=150, help="Number of steps, each with the whole graph.")
    parser.add_argument("--lr", type=float, default=0.01, help="Initial learning rate.")
    parser.add_argument("--weight_decay", type=float, default=5e-4, help="Weight decay (L2 loss on parameters).")
    parser.add_argument("--hidden", type=int, default=16, help="Number of hidden units.")
    parser.add_argument("--dropout", type=float, default=0.5, help="Dropout rate.")
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    graph = make_graph()
    targets = graph.y
    model = GCN(graph.x.size(1), args.hidden, int(graph.y.max()) + 1, args.dropout)
    optimizer = optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)

    start = time.time()
    best_val, test_at_best = 0.0, 0.0
    for epoch in range(args.epochs):
        loss_train = train(model, optimizer, graph, targets)
        loss_val, acc_val = evaluate(model, graph, graph.val_mask)
        if acc_val > best_val:
            best_val = acc_val
            test_at_best = evaluate(model, graph, graph.test_mask)[1]
        if epoch % 10 == 0:
            print(
                f"Epoch: {epoch + 1:04d} loss_train: {loss_train:.4f} "
                f"loss_val: {loss_val:.4f} acc_val: {acc_val:.4f}"
            )
    print(f"Optimization finished in {time.time() - start:.2f}s")
    print(f"Best validation accuracy {best_val:.4f}, test accuracy there {test_at_best:.4f}")


if __name__ == "__main__":
    main()
