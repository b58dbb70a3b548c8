"""Semi-supervised node classification with a graph convolutional network in plain torch.

Transductive: every node takes part in the messages, the loss sees the labels of the training nodes only.
"""

from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F


def make_graph(nodes=1500, classes=5, features=64, degree_in=8.0, degree_out=3.0, seed=0):
    """A stochastic block model; the features of a class scatter widely about its center."""
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, classes, (nodes,), generator=g)
    centers = 0.3 * torch.randn(classes, features, generator=g)
    x = centers[y] + torch.randn(nodes, features, generator=g)
    same = y[:, None] == y[None, :]
    p_in, p_out = degree_in * classes / nodes, degree_out * classes / (nodes * (classes - 1))
    probability = torch.where(same, torch.tensor(p_in), torch.tensor(p_out))
    upper = torch.triu(torch.rand(nodes, nodes, generator=g) < probability, diagonal=1)
    source, target = upper.nonzero().T
    edge_index = torch.stack([torch.cat([source, target]), torch.cat([target, source])])

    order = torch.randperm(nodes, generator=g)
    masks = torch.zeros(3, nodes, dtype=torch.bool)
    masks[0, order[:300]] = True
    masks[1, order[300:600]] = True
    masks[2, order[600:]] = True
    return SimpleNamespace(x=x, y=y, edge_index=edge_index, train_mask=masks[0], val_mask=masks[1], test_mask=masks[2])


def add_self_loops(edge_index, nodes):
    loops = torch.arange(nodes)
    return torch.cat([edge_index, torch.stack([loops, loops])], dim=1)


def gcn_norm(edge_index, nodes):
    source, target = edge_index
    degree = torch.zeros(nodes).index_add_(0, target, torch.ones(target.numel()))
    inverse = degree.pow(-0.5)
    return inverse[source] * inverse[target]


class GCNConv(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, edge_index, edge_weight):
        x = x @ self.weight
        source, target = edge_index
        messages = x[source] * edge_weight[:, None]
        return torch.zeros_like(x).index_add(0, target, messages) + self.bias


class GCN(nn.Module):
    def __init__(self, inputs, hidden, classes, dropout=0.5):
        super().__init__()
        self.conv1 = GCNConv(inputs, hidden)
        self.conv2 = GCNConv(hidden, classes)
        self.dropout = dropout

    def forward(self, x, edge_index, edge_weight):
        x = F.dropout(x, self.dropout, training=self.training)
        x = F.relu(self.conv1(x, edge_index, edge_weight))
        x = F.dropout(x, self.dropout, training=self.training)
        return self.conv2(x, edge_index, edge_weight)


torch.manual_seed(0)
data = make_graph()
data.x = (data.x - data.x.mean(0)) / data.x.std(0)
data.edge_index = add_self_loops(data.edge_index, len(data.y))
data.edge_weight = gcn_norm(data.edge_index, len(data.y))
print(f"{len(data.y)} nodes, {data.edge_index.size(1)} edges, {int(data.train_mask.sum())} labels")

model = GCN(data.x.size(1), 64, 5)
optimizer = torch.optim.Adam(
    [
        {"params": model.conv1.parameters(), "weight_decay": 5e-4},
        {"params": model.conv2.parameters(), "weight_decay": 0.0},
    ],
    lr=0.01,
)


def train():
    model.train()
    optimizer.zero_grad()
    out = model(data.x, data.edge_index, data.edge_weight)
    loss = F.cross_entropy(out[data.train_mask], data.y[data.train_mask])
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def test():
    model.eval()
    pred = model(data.x, data.edge_index, data.edge_weight).argmax(dim=1)
    right = pred == data.y
    return [right[mask].float().mean().item() for mask in (data.train_mask, data.val_mask, data.test_mask)]


best_val = test_acc = 0.0
for epoch in range(1, 601):
    loss = train()
    train_acc, val_acc, this_test = test()
    if val_acc > best_val:  # the test set is reported at the best epoch of validation
        best_val, test_acc = val_acc, this_test
    if epoch % 20 == 0:
        print(f"epoch {epoch:03d}: loss {loss:.4f} train {train_acc:.4f} val {val_acc:.4f} test {test_acc:.4f}")
