"""Node classification on a graph of communities with a graph convolutional network (transductive)."""

import argparse
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F


class Graph:
    """A stochastic block model with weak node features; masks for training, validation and test."""

    def __init__(self, nodes=600, classes=4, dim=16, p_in=0.05, p_out=0.008, seed=0):
        g = torch.Generator().manual_seed(seed)
        self.num_classes = classes
        self.y = torch.randint(0, classes, (nodes,), generator=g)
        centers = torch.randn(classes, dim, generator=g)
        self.x = 0.5 * centers[self.y] + torch.randn(nodes, dim, generator=g)
        same = self.y[:, None] == self.y[None, :]
        probability = torch.where(same, torch.tensor(p_in), torch.tensor(p_out))
        upper = torch.triu((torch.rand(nodes, nodes, generator=g) < probability).float(), diagonal=1)
        self.adj = self.normalize(upper + upper.t())
        order = torch.randperm(nodes, generator=g)
        self.train_idx, self.val_idx, self.test_idx = order[:240], order[240:400], order[400:]

    @staticmethod
    def normalize(adj):
        adj = adj + torch.eye(adj.size(0))
        scale = adj.sum(1).pow(-0.5)
        return scale[:, None] * adj * scale[None, :]


class GCNConv(nn.Module):
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
        self.gc1 = GCNConv(nfeat, nhid)
        self.gc2 = GCNConv(nhid, nclass)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.dropout(x, self.dropout, training=self.training)
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        return self.gc2(x, adj)


def accuracy(logits, labels):
    return (logits.argmax(dim=1) == labels).float().mean().item()


def train(model, graph, optimizer):
    model.train()
    optimizer.zero_grad()
    logits = model(graph.x, graph.adj)
    loss = F.cross_entropy(logits[graph.train_idx], graph.y[graph.train_idx])
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def evaluate(model, graph, index):
    model.eval()
    logits = model(graph.x, graph.adj)
    return F.cross_entropy(logits[index], graph.y[index]).item(), accuracy(logits[index], graph.y[index])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=120, help="full-batch steps")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight_decay", type=float, default=5e-4)
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    graph = Graph()
    model = GCN(graph.x.size(1), args.hidden, graph.num_classes, args.dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)

    best_loss, best_state = float("inf"), None
    for epoch in range(1, args.epochs + 1):
        train_loss = train(model, graph, optimizer)
        val_loss, val_acc = evaluate(model, graph, graph.val_idx)
        if val_loss < best_loss:
            best_loss, best_state = val_loss, copy.deepcopy(model.state_dict())
        if epoch % 20 == 0:
            print(f"Epoch {epoch:03d} loss_train {train_loss:.4f} loss_val {val_loss:.4f} acc_val {val_acc:.4f}")

    model.load_state_dict(best_state)
    test_loss, test_acc = evaluate(model, graph, graph.test_idx)
    print(f"Test set results: loss = {test_loss:.4f}, accuracy = {test_acc:.4f}")


if __name__ == "__main__":
    main()
