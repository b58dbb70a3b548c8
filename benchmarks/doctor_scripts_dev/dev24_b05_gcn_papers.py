# %% [markdown]
# # Graph convolution from scratch
# Papers cite papers, mostly of their own field. A hundred papers have a label; name the field of the others.

# %%
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)
torch.manual_seed(0)

# %% [markdown]
# ## The graph

# %%
num_nodes, num_classes, num_features = 1200, 5, 64
g = torch.Generator().manual_seed(42)

labels = torch.randint(0, num_classes, (num_nodes,), generator=g)
same_field = (labels[:, None] == labels[None, :]).float()
cites = 0.031 * same_field + 0.003 * (1 - same_field)
upper = torch.triu((torch.rand(num_nodes, num_nodes, generator=g) < cites).float(), diagonal=1)
adj = upper + upper.T

centers = torch.randn(num_classes, num_features, generator=g)
features = 0.25 * centers[labels] + torch.randn(num_nodes, num_features, generator=g)
print(f"{num_nodes} papers, {int(upper.sum())} citations, mean degree {adj.sum(1).mean():.1f}")

# %% [markdown]
# Twenty papers of each field to train on, 300 to choose the epoch, 500 to test.

# %%
order = torch.randperm(num_nodes, generator=g)
val_idx, test_idx, rest = order[:300], order[300:800], order[800:]
train_idx = torch.cat([rest[labels[rest] == c][:20] for c in range(num_classes)])

# %% [markdown]
# ## The network
# $\hat A = D^{-1/2} (A + I) D^{-1/2}$

# %%
adj_loops = adj + torch.eye(num_nodes)
inv_sqrt = adj_loops.sum(dim=1).rsqrt()
adj_norm = inv_sqrt[:, None] * adj_loops * inv_sqrt[None, :]


class GraphConv(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x, a):
        return a @ (x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, n_in, n_hidden, n_out, dropout=0.5):
        super().__init__()
        self.convs = nn.ModuleList(
            [GraphConv(n_in, n_hidden), GraphConv(n_hidden, n_hidden), GraphConv(n_hidden, n_out)]
        )
        self.dropout = dropout

    def forward(self, x, a):
        for i, conv in enumerate(self.convs):
            x = F.dropout(x, self.dropout, training=self.training)
            x = conv(x, a)
            if i < len(self.convs) - 1:
                x = F.relu(x)
        return x


model = GCN(num_features, 64, num_classes)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)

# %% [markdown]
# ## Training


# %%
def accuracy(logits, idx):
    correct = (logits[idx].argmax(dim=1) == labels[idx]).sum().item()
    return correct / len(idx)


def train_step():
    model.train()
    optimizer.zero_grad()
    out = model(features, adj_norm)
    loss = F.cross_entropy(out[train_idx], labels[train_idx])
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def test():
    model.eval()
    logits = model(features, adj_norm)
    val_loss = F.cross_entropy(logits[val_idx], labels[val_idx]).item()
    return val_loss, accuracy(logits, train_idx), accuracy(logits, val_idx), accuracy(logits, test_idx)


# %%
best_loss = float("inf")
best_state = None
for epoch in range(1, 501):
    loss = train_step()
    val_loss, train_acc, val_acc, test_acc = test()
    if val_loss < best_loss:
        best_loss = val_loss
        best_state = copy.deepcopy(model.state_dict())
    if epoch % 10 == 0:
        print(
            f"epoch {epoch:3d}  loss {loss:.4f}  val loss {val_loss:.4f}  "
            f"accuracy: train {train_acc:.3f}, val {val_acc:.3f}"
        )

# %%
model.load_state_dict(best_state)
val_loss, train_acc, val_acc, test_acc = test()
print(f"best epoch: val loss {val_loss:.4f}, val accuracy {val_acc:.3f}, test accuracy {test_acc:.3f}")
