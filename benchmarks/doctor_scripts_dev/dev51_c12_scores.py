# %% [markdown]
# ## Scores that users give to items
# Factor tables with sparse gradients and a small dense tower, each with the optimizer that suits it.

# %%
import math

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(17)
torch.manual_seed(17)

# %%
# A made-up table: tastes in two directions, kind and strict users, good and bad items, and some noise.
n_users, n_items, n_scores = 50, 60, 2000
user_taste, item_taste = rng.normal(0, 0.7, (n_users, 2)), rng.normal(0, 0.7, (n_items, 2))
user_level, item_level = rng.normal(0, 0.4, n_users), rng.normal(0, 0.5, n_items)

cells = rng.choice(n_users * n_items, size=n_scores, replace=False)
df = pd.DataFrame({"user": cells // n_items, "item": cells % n_items})
df["score"] = (
    3.0
    + user_level[df["user"]]
    + item_level[df["item"]]
    + (user_taste[df["user"]] * item_taste[df["item"]]).sum(axis=1)
    + rng.normal(0, 0.2, n_scores)
)
df.describe()

# %%
train_df, valid_df = train_test_split(df, test_size=0.2, random_state=17)
mean_score = float(train_df["score"].mean())


def to_dataset(frame):
    return TensorDataset(
        torch.tensor(frame["user"].to_numpy(), dtype=torch.long),
        torch.tensor(frame["item"].to_numpy(), dtype=torch.long),
        torch.tensor(frame["score"].to_numpy() - mean_score, dtype=torch.float32),
    )


train_dl = DataLoader(to_dataset(train_df), batch_size=64, shuffle=True)
valid_dl = DataLoader(to_dataset(valid_df), batch_size=200)


# %%
class Tables(nn.Module):
    def __init__(self, n_users, n_items, dim=4):
        super().__init__()
        self.user, self.item = nn.Embedding(n_users, dim, sparse=True), nn.Embedding(n_items, dim, sparse=True)
        self.user_bias, self.item_bias = nn.Embedding(n_users, 1, sparse=True), nn.Embedding(n_items, 1, sparse=True)
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.2)
        for table in (self.user_bias, self.item_bias):
            nn.init.zeros_(table.weight)

    def forward(self, user, item):
        bias = self.user_bias(user) + self.item_bias(item)
        return self.user(user), self.item(item), bias.squeeze(1)


class Recommender(nn.Module):
    def __init__(self, n_users, n_items, dim=4):
        super().__init__()
        self.tables = Tables(n_users, n_items, dim)
        self.tower = nn.Sequential(nn.Linear(2 * dim, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, user, item):
        u, v, bias = self.tables(user, item)
        score = bias + (u * v).sum(dim=1) + self.tower(torch.cat([u, v], dim=1)).squeeze(1)
        size = (u.pow(2) + v.pow(2)).sum(dim=1).mean()
        return score, size


model = Recommender(n_users, n_items)
opt_tables = torch.optim.SparseAdam(list(model.tables.parameters()), lr=0.03)
opt_tower = torch.optim.AdamW(model.tower.parameters(), lr=0.005, weight_decay=0.05)
schedulers = [torch.optim.lr_scheduler.ExponentialLR(o, gamma=0.93) for o in (opt_tables, opt_tower)]
shrink = 0.005

# %%
history = []
for epoch in range(25):
    model.train()
    train_error, n = 0.0, 0
    for user, item, target in train_dl:
        score, size = model(user, item)
        mse = F.mse_loss(score, target)
        loss = mse + shrink * size

        opt_tables.zero_grad()
        opt_tower.zero_grad()
        loss.backward()
        opt_tables.step()
        opt_tower.step()

        train_error += mse.item() * len(target)
        n += len(target)
    for scheduler in schedulers:
        scheduler.step()

    model.eval()
    with torch.no_grad():
        errors = torch.cat([model(user, item)[0] - target for user, item, target in valid_dl])
    history.append({
        "epoch": epoch,
        "train_rmse": math.sqrt(train_error / n),
        "valid_rmse": errors.pow(2).mean().sqrt().item(),
    })

# %%
history = pd.DataFrame(history).set_index("epoch")
print(history.iloc[::4].round(4))
print(f"RMSE {history['valid_rmse'].iloc[-1]:.4f}; of the mean score {valid_df['score'].sub(mean_score).pow(2).mean() ** 0.5:.4f}")
