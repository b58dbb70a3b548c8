# %% [markdown]
# # House prices with error bars: quantile regression in PyTorch
# If you like this kernel, please upvote :)

# %%
import copy
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses

SEED = 2024
EPOCHS = 45
BATCH_SIZE = 64
LR = 3e-3
QUANTILES = [0.1, 0.5, 0.9]


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(SEED)

# %% [markdown]
# ## Load the table

# %%
raw, price = houses(count=1500, seed=5)
raw = raw.numpy()
df = pd.DataFrame({
    "LivArea": 1500 + 420 * raw[:, 0],
    "Age": 38 + 11 * raw[:, 1],
    "LotFrontage": 70 + 18 * raw[:, 2],
    "YearSold": 2008 + 2 * raw[:, 3],
    "DistCenter": 9 + 2.5 * raw[:, 4],
    "Noise": 55 + 6 * raw[:, 5],
    "TaxCode": 300 + 40 * raw[:, 6],
    "Agent": 12 + 3 * raw[:, 7],
})
df["SalePrice"] = price.numpy() * 1000
features = [c for c in df.columns if c != "SalePrice"]
print(df.describe().T[["mean", "std", "min", "max"]])

train, valid = train_test_split(df, test_size=0.2, random_state=SEED)
scaler = StandardScaler().fit(train[features].values)
X_tr = torch.tensor(scaler.transform(train[features].values), dtype=torch.float32)
X_va = torch.tensor(scaler.transform(valid[features].values), dtype=torch.float32)
y_tr = torch.tensor(train["SalePrice"].values, dtype=torch.float32)
y_va = torch.tensor(valid["SalePrice"].values, dtype=torch.float32)
y_mu, y_sd = y_tr.mean(), y_tr.std()

train_loader = DataLoader(TensorDataset(X_tr, (y_tr - y_mu) / y_sd), batch_size=BATCH_SIZE, shuffle=True, drop_last=True)
valid_loader = DataLoader(TensorDataset(X_va, (y_va - y_mu) / y_sd), batch_size=BATCH_SIZE)


# %% [markdown]
# ## Model and pinball loss

# %%
class QuantileNet(nn.Module):
    def __init__(self, n_features, n_quantiles):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 64), nn.SiLU(), nn.Dropout(0.05),
            nn.Linear(64, 64), nn.SiLU(), nn.Dropout(0.05),
            nn.Linear(64, n_quantiles),
        )

    def forward(self, x):
        return self.layers(x)


class PinballLoss(nn.Module):
    def __init__(self, quantiles):
        super().__init__()
        self.register_buffer("q", torch.tensor(quantiles))

    def forward(self, pred, target):
        diff = target.unsqueeze(1) - pred
        return torch.maximum(self.q * diff, (self.q - 1) * diff).mean()


model = QuantileNet(len(features), len(QUANTILES))
criterion = PinballLoss(QUANTILES)
optimizer = torch.optim.Adam(model.parameters(), lr=LR)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=2)


# %%
def train_fn(model, loader):
    model.train()
    running = 0.0
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        running += loss.item() * len(xb)
    return running / (len(loader) * loader.batch_size)


def valid_fn(model, loader):
    model.eval()
    running, preds = 0.0, []
    with torch.no_grad():
        for xb, yb in loader:
            out = model(xb)
            running += criterion(out, yb).item() * len(xb)
            preds.append(out)
    return running / len(loader.dataset), torch.cat(preds)


# %%
best_loss, best_weights = np.inf, None
for epoch in range(EPOCHS):
    train_loss = train_fn(model, train_loader)
    valid_loss, _ = valid_fn(model, valid_loader)
    scheduler.step(valid_loss)
    if valid_loss < best_loss:
        best_loss = valid_loss
        best_weights = copy.deepcopy(model.state_dict())
    if epoch % 5 == 0 or epoch == EPOCHS - 1:
        print(f"Epoch {epoch:02d}  train {train_loss:.4f}  valid {valid_loss:.4f}  lr {optimizer.param_groups[0]['lr']:.1e}")

# %% [markdown]
# ## Out-of-sample quality of the best epoch

# %%
model.load_state_dict(best_weights)
_, preds = valid_fn(model, valid_loader)
preds = preds * y_sd + y_mu
low, mid, high = preds.unbind(1)
mae = (mid - y_va).abs().mean().item()
base = (y_tr.median() - y_va).abs().mean().item()
coverage = ((y_va >= low) & (y_va <= high)).float().mean().item()
print(f"Best pinball {best_loss:.4f} | MAE ${mae:,.0f} (always the median: ${base:,.0f}) | 80% band covers {coverage:.1%}")
