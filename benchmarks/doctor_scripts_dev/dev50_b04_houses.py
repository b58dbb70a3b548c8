# %% [markdown]
# # House prices: MLP, 3 folds, out-of-fold score

# %%
import copy
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


class CFG:
    seed = 42
    n_folds = 3
    epochs = 30
    batch_size = 32
    lr = 1e-3
    weight_decay = 1e-4
    hidden = 128
    dropout = 0.2


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)

# %%
features, price = houses(count=1200, seed=5)
df = pd.DataFrame(features.numpy(), columns=[f"f{i}" for i in range(features.shape[1])])
df["price"] = price.numpy()
print(df.describe().T[["mean", "std", "min", "max"]])

# %%
feature_cols = [c for c in df.columns if c != "price"]
X = df[feature_cols].to_numpy(dtype=np.float32)
y = df["price"].to_numpy(dtype=np.float32)


# %%
class HouseNet(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, CFG.hidden),
            nn.BatchNorm1d(CFG.hidden),
            nn.ReLU(),
            nn.Dropout(CFG.dropout),
            nn.Linear(CFG.hidden, CFG.hidden),
            nn.BatchNorm1d(CFG.hidden),
            nn.ReLU(),
            nn.Dropout(CFG.dropout),
            nn.Linear(CFG.hidden, 1),
        )

    def forward(self, x):
        return self.layers(x)


def train_fn(model, loader, optimizer, loss_fn):
    model.train()
    running = 0.0
    for xb, yb in loader:
        optimizer.zero_grad()
        pred = model(xb).squeeze(1)
        loss = loss_fn(pred, yb)
        loss.backward()
        optimizer.step()
        running += loss.item() * len(xb)
    return running / len(loader.dataset)


def valid_fn(model, loader):
    model.eval()
    preds = []
    with torch.no_grad():
        for xb, _ in loader:
            preds.append(model(xb).reshape(-1).numpy())
    return np.concatenate(preds)


# %%
oof = np.zeros(len(y), dtype=np.float32)
kf = KFold(n_splits=CFG.n_folds, shuffle=True, random_state=CFG.seed)
for fold, (trn_idx, val_idx) in enumerate(kf.split(X)):
    seed_everything(CFG.seed + fold)
    scaler = StandardScaler().fit(X[trn_idx])
    x_trn = scaler.transform(X[trn_idx]).astype(np.float32)
    x_val = scaler.transform(X[val_idx]).astype(np.float32)
    y_mean, y_std = float(y[trn_idx].mean()), float(y[trn_idx].std())
    y_trn = (y[trn_idx] - y_mean) / y_std
    y_val = (y[val_idx] - y_mean) / y_std

    trn_ds = TensorDataset(torch.from_numpy(x_trn), torch.from_numpy(y_trn))
    val_ds = TensorDataset(torch.from_numpy(x_val), torch.from_numpy(y_val))
    trn_dl = DataLoader(trn_ds, batch_size=CFG.batch_size, shuffle=True)
    val_dl = DataLoader(val_ds, batch_size=256, shuffle=False)

    model = HouseNet(len(feature_cols))
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=3)
    loss_fn = nn.MSELoss()

    best_rmse, best_state = float("inf"), None
    for epoch in range(CFG.epochs):
        train_loss = train_fn(model, trn_dl, optimizer, loss_fn)
        preds = valid_fn(model, val_dl) * y_std + y_mean
        rmse = mean_squared_error(y[val_idx], preds) ** 0.5
        r2 = r2_score(y[val_idx], preds)
        scheduler.step(rmse)
        if rmse < best_rmse:
            best_rmse, best_state = rmse, copy.deepcopy(model.state_dict())
        if (epoch + 1) % 10 == 0:
            print(f"fold {fold} epoch {epoch + 1:2d} loss {train_loss:.4f} rmse {rmse:.3f} r2 {r2:.4f}")

    model.load_state_dict(best_state)
    oof[val_idx] = valid_fn(model, val_dl) * y_std + y_mean
    print(f"fold {fold} best rmse {best_rmse:.3f}")

# %%
print(f"OOF rmse {mean_squared_error(y, oof) ** 0.5:.3f}  r2 {r2_score(y, oof):.4f}")
