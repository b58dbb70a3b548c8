"""Node classification with a graph convolutional network (full batch), after PyG's examples/gcn.py."""

import argparse
import copy

import torch
import torch.nn.functional as F
from torch import nn


class Data:
    """A stochastic block model with noisy node features."""

    def __init__(self, num_nodes=600, num_classes=4, num_features=16, seed=0):
        g = torch.Generator().manual_seed(seed)
        self.num_classes, self.num_features = num_classes, num_features
        self.y = torch.randint(0, num_classes, (num_nodes,), generator=g)
        centers = torch.randn(num_classes, num_features, generator=g)
        self.x = 0.5 * centers[self.y] + torch.randn(num_nodes, num_features, generator=g)
        same = self.y[:, None] == self.y[None, :]
        probability = torch.where(same, 0.04, 0.006)
        upper = torch.triu(torch.rand(num_nodes, num_nodes, generator=g) < probability, diagonal=1)
        self.adj = (upper | upper.t()).float()
        order = torch.randperm(num_nodes, generator=g)
        self.train_mask, self.val_mask, self.test_mask = torch.zeros(3, num_nodes, dtype=torch.bool)
        self.train_mask[order[:240]] = True
        self.val_mask[order[240:360]] = True
        self.test_mask[order[360:]] = True


def gcn_norm(adj):
    adj = adj + torch.eye(len(adj))
    inv_sqrt = adj.sum(1).pow(-0.5)
    return inv_sqrt[:, None] * adj * inv_sqrt[None, :]


class GCNConv(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.lin = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.xavier_uniform_(self.lin.weight)

    def forward(self, x, adj):
        return adj @ self.lin(x) + self.bias


class GCN(nn.Module):
    def __init__(self, in_channels, hidden_channels, out_channels, dropout):
        super().__init__()
        self.conv1 = GCNConv(in_channels, hidden_channels)
        self.conv2 = GCNConv(hidden_channels, out_channels)
        self.dropout = dropout

    def forward(self, x, adj):
        x = F.dropout(x, p=self.dropout, training=self.training)
        x = self.conv1(x, adj).relu()
        x = F.dropout(x, p=self.dropout, training=self.training)
        return self.conv2(x, adj)


def train(model, optimizer, data, adj):
    model.train()
    optimizer.zero_grad()
    inputs, target_mask = data.x, data.train_mask
    out = model(inputs, adj)
    loss = F.cross_entropy(out[target_mask], data.y[target_mask])
    loss.backward()
    optimizer.step()
    return float(loss)


@torch.no_grad()
def test(model, data, adj):
    model.eval()
    inputs = data.x
    pred = model(inputs, adj).argmax(dim=-1)
    accs = []
    for mask in (data.train_mask, data.val_mask, data.test_mask):
        accs.append(int((pred[mask] == data.y[mask]).sum()) / int(mask.sum()))
    return accs


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden_channels", type=int, default=32)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--patience", type=int, default=60)
    args = parser.parse_args()
    torch.manual_seed(12345)

    data = Data()
    adj = gcn_norm(data.adj)
    in_channels = data.num_features
    model = GCN(in_channels, args.hidden_channels, data.num_classes, args.dropout)
    optimizer = torch.optim.Adam(
        [
            dict(params=model.conv1.parameters(), weight_decay=5e-4),
            dict(params=model.conv2.parameters(), weight_decay=0),
        ],
        lr=args.lr,
    )

    best_val_acc, best_epoch, best_state = 0.0, 0, None
    for epoch in range(1, args.epochs + 1):
        loss = train(model, optimizer, data, adj)
        train_acc, val_acc, _ = test(model, data, adj)
        if val_acc > best_val_acc:
            best_val_acc, best_epoch = val_acc, epoch
            best_state = copy.deepcopy(model.state_dict())
        if epoch % 10 == 0:
            print(f"Epoch: {epoch:03d}, Loss: {loss:.4f}, Train: {train_acc:.4f}, Val: {val_acc:.4f}")
        if epoch - best_epoch >= args.patience:
            break
    model.load_state_dict(best_state)
    print(f"Best epoch {best_epoch}, test accuracy: {test(model, data, adj)[2]:.4f}")


if __name__ == "__main__":
    main()
