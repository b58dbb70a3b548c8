"""Node classification on one graph: sparse normalized adjacency, few labeled nodes, validation and test by masks."""
import argparse
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F


class GraphData:
    """Four communities; features say a little about the community, edges say more. One graph, three disjoint masks."""

    def __init__(self, nodes=600, classes=4, features=24, per_class=30, seed=0):
        g = torch.Generator().manual_seed(seed)
        self.y = torch.randint(0, classes, (nodes,), generator=g)
        centers = torch.randn(classes, features, generator=g)
        self.x = 0.5 * centers[self.y] + torch.randn(nodes, features, generator=g)
        same = self.y[:, None] == self.y[None]
        edge = torch.rand(nodes, nodes, generator=g) < torch.where(same, 0.035, 0.003)
        upper = torch.triu(edge, diagonal=1)
        self.adjacency = (upper | upper.T).float()
        order = torch.randperm(nodes, generator=g)
        self.train_mask, self.val_mask, self.test_mask = (torch.zeros(nodes, dtype=torch.bool) for _ in range(3))
        for c in range(classes):
            self.train_mask[order[self.y[order] == c][:per_class]] = True
        rest = order[~self.train_mask[order]]
        self.val_mask[rest[:200]] = True
        self.test_mask[rest[200:]] = True
        self.classes = classes

    def normalized_adjacency(self):
        """D^-1/2 (A + I) D^-1/2 as a sparse matrix."""
        a = self.adjacency + torch.eye(len(self.y))
        d = a.sum(1).rsqrt()
        return (d[:, None] * a * d[None]).to_sparse()


class GraphConvolution(nn.Module):
    def __init__(self, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, adj):
        return torch.sparse.mm(adj, x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, features, hidden, classes, dropout):
        super().__init__()
        self.gc1, self.gc2 = GraphConvolution(features, hidden), GraphConvolution(hidden, classes)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.relu(self.gc1(x, adj))
        x = F.dropout(x, self.dropout, training=self.training)
        return F.log_softmax(self.gc2(x, adj), dim=1)


@torch.no_grad()
def test(model, data, adj):
    model.eval()
    predicted = model(data.x, adj).argmax(1)
    return [(predicted[m] == data.y[m]).float().mean().item() for m in (data.train_mask, data.val_mask, data.test_mask)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--weight-decay", type=float, default=5e-3)
    parser.add_argument("--hidden", type=int, default=24)
    parser.add_argument("--dropout", type=float, default=0.4)
    args = parser.parse_args()
    torch.manual_seed(42)

    data = GraphData()
    data.x = (data.x - data.x.mean(0)) / data.x.std(0)
    adj = data.normalized_adjacency()
    print(f"{len(data.y)} nodes, {int(data.adjacency.sum()) // 2} edges, "
          f"{int(data.train_mask.sum())} / {int(data.val_mask.sum())} / {int(data.test_mask.sum())} labeled")
    model = GCN(data.x.shape[1], args.hidden, data.classes, args.dropout)
    optimizer = torch.optim.Adam(
        [{"params": model.gc1.parameters(), "weight_decay": args.weight_decay},
         {"params": model.gc2.parameters(), "weight_decay": 0.0}], lr=args.lr)
    best_val, best_state = 0.0, None
    for epoch in range(1, args.epochs + 1):
        model.train()
        optimizer.zero_grad()
        output = model(data.x, adj)
        loss = F.nll_loss(output[data.train_mask], data.y[data.train_mask])
        loss.backward()
        optimizer.step()
        train_acc, val_acc, _ = test(model, data, adj)
        if val_acc > best_val:
            best_val, best_state = val_acc, copy.deepcopy(model.state_dict())
        if epoch % 10 == 0:
            print(f"Epoch: {epoch:03d}, Loss: {loss.item():.4f}, Train: {train_acc:.4f}, Val: {val_acc:.4f}")
    model.load_state_dict(best_state)
    _, val_acc, test_acc = test(model, data, adj)
    print(f"Best val {val_acc:.4f}, test {test_acc:.4f}")


if __name__ == "__main__":
    main()
