"""Recommender: biased matrix factorization of ratings, in the way of course notebooks, with a rank check."""

# %%
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)

N_USERS, N_ITEMS, N_RATINGS = 240, 150, 14000


# %%
def make_ratings(seed=0, rank=3):
    rng = np.random.default_rng(seed)
    users, items = rng.normal(0, 1, (N_USERS, rank)), rng.normal(0, 1, (N_ITEMS, rank))
    user_bias, item_bias = rng.normal(0, 0.3, N_USERS), rng.normal(0, 0.4, N_ITEMS)
    cells = rng.choice(N_USERS * N_ITEMS, N_RATINGS, replace=False)  # no pair twice
    u, i = cells // N_ITEMS, cells % N_ITEMS
    raw = 3.2 + user_bias[u] + item_bias[i] + 0.45 * (users[u] * items[i]).sum(1) + rng.normal(0, 0.2, N_RATINGS)
    return u, i, np.clip(np.round(2 * raw) / 2, 0.5, 5.0).astype(np.float32)


user, item, rating = make_ratings()
split = int(0.85 * N_RATINGS)  # cells are in random order already
train_set = TensorDataset(*(torch.as_tensor(column[:split]) for column in (user, item, rating)))
valid_set = TensorDataset(*(torch.as_tensor(column[split:]) for column in (user, item, rating)))
train_loader = DataLoader(train_set, batch_size=128, shuffle=True)
valid_loader = DataLoader(valid_set, batch_size=1024)
mean_rating = float(rating[:split].mean())
print(f"rating mean {mean_rating:.2f}, RMSE of the mean {np.sqrt(np.mean((rating[split:] - mean_rating) ** 2)):.3f}")


# %%
class DotProductBias(nn.Module):
    def __init__(self, n_users, n_items, n_factors, offset, y_range=(0.0, 5.5)):
        super().__init__()
        self.user_factors = nn.Embedding(n_users, n_factors)
        self.item_factors = nn.Embedding(n_items, n_factors)
        self.user_bias = nn.Embedding(n_users, 1)
        self.item_bias = nn.Embedding(n_items, 1)
        self.low, self.high = y_range
        share = (offset - self.low) / (self.high - self.low)
        self.offset = nn.Parameter(torch.tensor(float(np.log(share / (1 - share)))))
        nn.init.normal_(self.user_factors.weight, std=0.1)
        nn.init.normal_(self.item_factors.weight, std=0.1)
        nn.init.zeros_(self.user_bias.weight)
        nn.init.zeros_(self.item_bias.weight)

    def forward(self, user, item):
        p, q = self.user_factors(user), self.item_factors(item)
        score = self.offset + (p * q).sum(1) + self.user_bias(user).squeeze(1) + self.item_bias(item).squeeze(1)
        penalty = p.pow(2).sum(1).mean() + q.pow(2).sum(1).mean()
        return self.low + (self.high - self.low) * torch.sigmoid(score), penalty


model = DotProductBias(N_USERS, N_ITEMS, n_factors=6, offset=mean_rating)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
epochs = 20
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs, eta_min=1e-4)


# %%
def evaluate():
    model.eval()
    predicted, true, who = [], [], []
    with torch.no_grad():
        for u, i, r in valid_loader:
            predicted.append(model(u, i)[0])
            true.append(r)
            who.append(u)
    predicted, true, who = torch.cat(predicted), torch.cat(true), torch.cat(who)
    right = pairs = 0
    for u in who.unique():
        p, t = predicted[who == u], true[who == u]
        better = t[:, None] > t[None, :]
        right += ((p[:, None] > p[None, :]) & better).sum().item()
        pairs += better.sum().item()
    return (predicted - true).pow(2).mean().sqrt().item(), right / pairs


# %%
for epoch in range(epochs):
    model.train()
    squares, count = 0.0, 0
    for u, i, r in train_loader:
        predicted, penalty = model(u, i)
        mse = nn.functional.mse_loss(predicted, r)
        loss = mse + 0.004 * penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        squares += mse.item() * len(r)
        count += len(r)
    scheduler.step()
    rmse, order = evaluate()
    print(f"epoch {epoch + 1:2d}  train RMSE {(squares / count) ** 0.5:.3f}  valid RMSE {rmse:.3f}  pairs in order {order:.3f}")
