# %% [markdown]
# # Node classification with a graph convolutional network
# A made citation graph: 1600 papers of 5 fields, of which 100 are labelled for training.

# %%
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(12345)
torch.set_num_threads(1)

# %% The graph
num_nodes, num_classes, num_words = 1600, 5, 300
y = torch.randint(0, num_classes, (num_nodes,))

same_field = y[:, None] == y[None, :]
probability = torch.where(same_field, torch.tensor(0.02), torch.tensor(0.0025))
adjacency = (torch.rand(num_nodes, num_nodes) < probability).float().triu(diagonal=1)
adjacency = adjacency + adjacency.T
print(f"{int(adjacency.sum()) // 2} citations, mean degree {adjacency.sum(1).mean():.1f}")

# %% The words: each field has 40 words that its papers use more often
usual = torch.full((num_classes, num_words), 0.03)
for field in range(num_classes):
    usual[field, torch.randperm(num_words)[:40]] = 0.10
x = (torch.rand(num_nodes, num_words) < usual[y]).float()
x = x / x.sum(dim=1, keepdim=True).clamp(min=1)

# %% The masks: 20 labelled papers of each field, 500 for validation, 500 for the test
train_mask = torch.zeros(num_nodes, dtype=torch.bool)
for field in range(num_classes):
    members = (y == field).nonzero().flatten()
    train_mask[members[torch.randperm(len(members))[:20]]] = True
rest = (~train_mask).nonzero().flatten()
rest = rest[torch.randperm(len(rest))]
val_mask, test_mask = torch.zeros_like(train_mask), torch.zeros_like(train_mask)
val_mask[rest[:500]] = True
test_mask[rest[500:1000]] = True

# %% Symmetric normalization with self loops
with_loops = adjacency + torch.eye(num_nodes)
inverse_root = with_loops.sum(dim=1).pow(-0.5)
a_hat = inverse_root[:, None] * with_loops * inverse_root[None, :]


# %% The model
class GCNConv(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, a_hat):
        return a_hat @ (x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, hidden_channels=32):
        super().__init__()
        self.conv1 = GCNConv(num_words, hidden_channels)
        self.conv2 = GCNConv(hidden_channels, num_classes)

    def forward(self, x, a_hat):
        x = F.dropout(x, p=0.5, training=self.training)
        x = self.conv1(x, a_hat).relu()
        x = F.dropout(x, p=0.5, training=self.training)
        x = self.conv2(x, a_hat)
        return F.log_softmax(x, dim=1)


model = GCN()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)


# %%
def train():
    model.train()
    optimizer.zero_grad()
    out = model(x, a_hat)
    loss = F.nll_loss(out[train_mask], y[train_mask])
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def test():
    model.eval()
    pred = model(x, a_hat).argmax(dim=1)
    accuracies = []
    for mask in (train_mask, val_mask, test_mask):
        correct = pred[mask] == y[mask]
        accuracies.append(int(correct.sum()) / int(mask.sum()))
    return accuracies


# %%
best_val_acc = test_acc = 0.0
for epoch in range(1, 601):
    loss = train()
    train_acc, val_acc, this_test_acc = test()
    if val_acc > best_val_acc:
        best_val_acc, test_acc = val_acc, this_test_acc
    if epoch % 10 == 0:
        print(f"Epoch: {epoch:03d}, Loss: {loss:.4f}, Train: {train_acc:.3f}, Val: {val_acc:.3f}, Test: {test_acc:.3f}")

# %%
print(f"Best validation accuracy {best_val_acc:.3f}, test accuracy with it {test_acc:.3f}")
