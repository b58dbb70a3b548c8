# %% [markdown]
# # Week 5: Recommender systems by matrix factorization
# We predict how user *u* would rate item *i*:  r(u, i) = mu + b_u + b_i + p_u . q_i

# %%
import copy

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(42)

# %% [markdown]
# ## 1. The data
# 600 users, 400 items, a quarter of all pairs was rated. The table is ordered by user, as log files are.

# %%
n_users, n_items, n_ratings = 600, 400, 60000
g = torch.Generator().manual_seed(7)
true_p = torch.randn(n_users, 4, generator=g) * 0.6
true_q = torch.randn(n_items, 4, generator=g) * 0.6
true_bu = 0.3 * torch.randn(n_users, generator=g)
true_bi = 0.4 * torch.randn(n_items, generator=g)

pairs = torch.randperm(n_users * n_items, generator=g)[:n_ratings].sort().values
users, items = pairs // n_items, pairs % n_items
ratings = 3.2 + true_bu[users] + true_bi[items] + (true_p[users] * true_q[items]).sum(1)
ratings = (ratings + 0.3 * torch.randn(n_ratings, generator=g)).clamp(1, 5)
print("ratings:", ratings.shape, "mean", ratings.mean().item(), "std", ratings.std().item())

# %% [markdown]
# ## 2. Split
# Random split: 80 % training, 10 % validation, 10 % test.

# %%
perm = torch.randperm(n_ratings, generator=g)
users, items, ratings = users[perm], items[perm], ratings[perm]
a, b = int(0.8 * n_ratings), int(0.9 * n_ratings)
train_ds = TensorDataset(users[:a], items[:a], ratings[:a])
val_ds = TensorDataset(users[a:b], items[a:b], ratings[a:b])
test_ds = TensorDataset(users[b:], items[b:], ratings[b:])
train_dl = DataLoader(train_ds, batch_size=256, shuffle=True)
val_dl = DataLoader(val_ds, batch_size=1000)
test_dl = DataLoader(test_ds, batch_size=1000)
mean_rating = ratings[:a].mean()
print("predicting the mean gives RMSE", (ratings[a:b] - mean_rating).pow(2).mean().sqrt().item())

# %% [markdown]
# ## 3. The model


# %%
class MF(nn.Module):
    def __init__(self, n_users, n_items, dim, mu):
        super().__init__()
        self.P = nn.Embedding(n_users, dim)
        self.Q = nn.Embedding(n_items, dim)
        self.bu = nn.Embedding(n_users, 1)
        self.bi = nn.Embedding(n_items, 1)
        self.register_buffer("mu", mu.clone())
        for emb in (self.P, self.Q):
            nn.init.normal_(emb.weight, std=0.1)
        for emb in (self.bu, self.bi):
            nn.init.zeros_(emb.weight)

    def forward(self, u, i):
        dot = (self.P(u) * self.Q(i)).sum(1)
        bias = self.bu(u).squeeze(1) + self.bi(i).squeeze(1)
        return self.mu + bias + dot


model = MF(n_users, n_items, dim=6, mu=mean_rating)
print(model)

# %% [markdown]
# ## 4. Training

# %%
criterion = nn.MSELoss()
opt = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-5)


# %%
def rmse(model, loader):
    model.eval()
    squares = 0.0
    with torch.no_grad():
        for u, i, r in loader:
            squares += (model(u, i) - r).pow(2).sum().item()
    return (squares / len(loader.dataset)) ** 0.5


# %%
history, best, best_state = [], float("inf"), None
for epoch in range(30):
    model.train()
    seen, total = 0, 0.0
    for u, i, r in train_dl:
        pred = model(u, i)
        loss = criterion(pred, r)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item() * len(r)
        seen += len(r)
    val = rmse(model, val_dl)
    history.append((total / seen, val))
    if val < best:
        best, best_state = val, copy.deepcopy(model.state_dict())
    print(f"epoch {epoch + 1:2d}: train MSE {total / seen:.4f}  val RMSE {val:.4f}")

# %% [markdown]
# ## 5. Test

# %%
model.load_state_dict(best_state)
print("test RMSE:", round(rmse(model, test_dl), 4), "(noise floor 0.3)")

# %%
# Exercise: recommend five items that user 3 has not rated yet.
everything = torch.arange(n_items)
with torch.no_grad():
    scores = model(torch.full((n_items,), 3), everything)
scores[items[users == 3]] = float("-inf")
print("for user 3:", scores.topk(5).indices.tolist())
