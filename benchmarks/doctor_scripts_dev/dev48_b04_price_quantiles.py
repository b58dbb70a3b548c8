# %% [markdown]
# # House prices: 10 %, 50 % and 90 % quantiles with a small MLP
# 3 folds, standardized features, pinball loss. If you like this kernel, please upvote!

# %%
import copy
import random
import warnings

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset

from toydata import houses

warnings.filterwarnings("ignore")


# %%
class CFG:
    seed = 2023
    n_folds = 3
    epochs = 35
    batch_size = 64
    lr = 3e-3
    weight_decay = 1e-5
    hidden = 96
    dropout = 0.05
    quantiles = [0.1, 0.5, 0.9]
    dtype = torch.float32


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)

# %%
features, price = houses(1500, seed=CFG.seed)
df = pd.DataFrame(features.numpy(), columns=[f"feat_{i}" for i in range(8)])
df["price"] = price.numpy() * 1000  # dollars
FEATURES = [c for c in df.columns if c != "price"]
print(df.describe().round(2))


# %%
class HouseDataset(Dataset):
    def __init__(self, X, y):
        self.X = torch.tensor(X, dtype=CFG.dtype)
        self.y = torch.tensor(y, dtype=torch.float32).unsqueeze(1)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, idx):
        return self.X[idx], self.y[idx]


class QuantileNet(nn.Module):
    def __init__(self, n_features, hidden, dropout, n_quantiles):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(n_features, hidden),
            nn.BatchNorm1d(hidden),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.BatchNorm1d(hidden),
            nn.SiLU(),
        )
        self.head = nn.Linear(hidden, n_quantiles)

    def forward(self, x):
        return self.head(self.body(x)).float()


Q = torch.tensor(CFG.quantiles)


def pinball_loss(pred, target):
    """pred: (batch, quantiles), target: (batch, 1)"""
    error = target - pred
    return torch.max(Q * error, (Q - 1) * error).mean()


# %%
def train_fn(net, loader, optimizer):
    net.train()
    total = 0.0
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = pinball_loss(net(xb), yb)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(xb)
    return total / len(loader.dataset)


@torch.no_grad()
def predict_fn(net, loader):
    net.eval()
    preds, targets = [], []
    for xb, yb in loader:
        preds.append(net(xb))
        targets.append(yb)
    preds, targets = torch.cat(preds), torch.cat(targets)
    return preds.numpy(), pinball_loss(preds, targets).item()


def run_fold(fold, train_idx, valid_idx):
    scaler = StandardScaler()
    X_train = scaler.fit_transform(df.loc[train_idx, FEATURES].values)
    X_valid = scaler.transform(df.loc[valid_idx, FEATURES].values)
    y_train = df.loc[train_idx, "price"].values
    y_valid = df.loc[valid_idx, "price"].values
    y_mean, y_std = y_train.mean(), y_train.std()
    train_ds = HouseDataset(X_train, (y_train - y_mean) / y_std)
    valid_ds = HouseDataset(X_valid, (y_valid - y_mean) / y_std)
    train_loader = DataLoader(train_ds, batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_ds, batch_size=250)

    net = QuantileNet(len(FEATURES), CFG.hidden, CFG.dropout, len(CFG.quantiles)).to(CFG.dtype)
    optimizer = torch.optim.Adam(net.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.3, patience=3)
    best_loss, best_state = np.inf, None
    for epoch in range(CFG.epochs):
        train_loss = train_fn(net, train_loader, optimizer)
        _, valid_loss = predict_fn(net, valid_loader)
        scheduler.step(valid_loss)
        if valid_loss < best_loss:
            best_loss, best_state = valid_loss, copy.deepcopy(net.state_dict())
        if epoch % 10 == 0 or epoch == CFG.epochs - 1:
            print(f"fold {fold} epoch {epoch:2d} train {train_loss:.4f} valid {valid_loss:.4f}")
    net.load_state_dict(best_state)
    preds, _ = predict_fn(net, valid_loader)
    print(f"fold {fold} kept: {best_loss:.4f}")
    return preds * y_std + y_mean


# %%
oof = np.zeros((len(df), len(CFG.quantiles)))
folds = KFold(n_splits=CFG.n_folds, shuffle=True, random_state=CFG.seed)
for fold, (train_idx, valid_idx) in enumerate(folds.split(df)):
    oof[valid_idx] = run_fold(fold, train_idx, valid_idx)

# %%
y = df["price"].values
inside = ((y >= oof[:, 0]) & (y <= oof[:, 2])).mean()
mae = np.abs(y - oof[:, 1]).mean()
cv = pinball_loss(torch.tensor(oof, dtype=torch.float32), torch.tensor(y, dtype=torch.float32).unsqueeze(1)).item()
print(f"CV pinball {cv:.0f} dollars, MAE of the median {mae:.0f} dollars, within the 80 % band {inside:.3f}")
