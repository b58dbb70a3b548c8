import torch
import torch.nn.functional as F
from torch import nn


def make_graph(nodes=200, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (nodes,), generator=generator)
    same = labels[:, None] == labels[None, :]
    chance = torch.where(same, 0.06, 0.01)
    adjacency = (torch.rand(nodes, nodes, generator=generator) < chance).float().triu(1)
    adjacency = adjacency + adjacency.T + torch.eye(nodes)
    degree = adjacency.sum(1).rsqrt()
    features = F.one_hot(labels, classes).float() + 1.0 * torch.randn(nodes, classes, generator=generator)
    features = torch.cat([features, torch.randn(nodes, 8, generator=generator)], dim=1)
    return degree[:, None] * adjacency * degree[None, :], features, labels


class GraphConv(nn.Module):
    def __init__(self, input_dim, output_dim):
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(input_dim, output_dim))
        nn.init.xavier_normal_(self.kernel)
        self.bias = nn.Parameter(torch.zeros(output_dim))

    def forward(self, x, adj):
        return adj @ (x @ self.kernel) + self.bias


class GCN(nn.Module):
    def __init__(self, input_dim, hidden_dim, output_dim, dropout_p=0.3):
        super().__init__()
        self.gc1, self.gc2, self.dropout = (
            GraphConv(input_dim, hidden_dim),
            GraphConv(hidden_dim, output_dim),
            nn.Dropout(dropout_p),
        )

    def forward(self, x, adj):
        x = self.dropout(F.relu(self.gc1(x, adj)))
        return F.log_softmax(self.gc2(x, adj), dim=1)


torch.manual_seed(42)
adj, features, labels = make_graph()
order = torch.randperm(200)
idx_train, idx_val = order[:100], order[100:]
gcn = GCN(12, 16, 4)
optimizer = torch.optim.Adam(gcn.parameters(), lr=0.01, weight_decay=5e-4)
criterion = nn.NLLLoss()


def train_iter(epoch):
    gcn.train()
    optimizer.zero_grad()
    output = gcn(features, adj)
    loss = criterion(output[idx_train], labels[idx_train])
    loss.backward()
    optimizer.step()
    if epoch % 20 == 0:
        loss_val, acc_val = test(idx_val)
        print(f"Epoch: {epoch:04d} loss_train: {loss.item():.4f} loss_val: {loss_val:.4f} acc_val: {acc_val:.4f}")


def test(idx):
    gcn.eval()
    with torch.no_grad():
        output = gcn(features, adj)
        return criterion(output[idx], labels[idx]).item(), (output[idx].argmax(1) == labels[idx]).float().mean().item()


for epoch in range(120):
    train_iter(epoch + 1)
