# %% [markdown]
# # House prices: small MLP, 4 folds (baseline, v7)
# Trees are still better on the leaderboard, but this blends well.

# %%
import copy
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

import toydata

SEED = 2023
N_FOLDS = 4
EPOCHS = 40
BATCH = 32
LR = 4e-3
TARGET = "SalePrice"


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(SEED)

# %% [markdown]
# ## Data

# %%
features, price = toydata.houses(1000, seed=SEED)
names = ["LotArea", "Age", "Rooms", "Baths", "Facing", "Street", "Garage", "Garden"]
df = pd.DataFrame(features.numpy(), columns=names)
df["LotArea"] = 900 + 250 * df["LotArea"]
df["Age"] = 60 + 15 * df["Age"]
df["Garage"] = df["Garage"].where(np.random.rand(len(df)) > 0.03)
df[TARGET] = 1000 * price.numpy()

train_df = df.iloc[:800].reset_index(drop=True)
test_df = df.iloc[800:].reset_index(drop=True)
FEATURES = [c for c in df.columns if c != TARGET]
print(train_df.describe().T[["count", "mean", "std", "min", "max"]].round(1))


def prepare(frame, medians, scaler):
    return torch.tensor(scaler.transform(frame[FEATURES].fillna(medians)), dtype=torch.float32)


def rmse(y_true, y_pred):
    return float(np.sqrt(mean_squared_error(y_true, y_pred)))


# %% [markdown]
# ## Model


# %%
class HouseNet(nn.Module):
    def __init__(self, n_in, hidden=64, p=0.05):
        super().__init__()
        self.block1 = nn.Sequential(nn.Linear(n_in, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Dropout(p))
        self.block2 = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(p))
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.out(self.block2(self.block1(x)))


def train_epoch(model, loader, optimizer, criterion):
    model.train()
    total = 0.0
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(xb)
    return total / len(loader.dataset)


@torch.no_grad()
def predict(model, X, y_mean, y_std):
    model.eval()
    return model(X).squeeze(1).numpy() * y_std + y_mean


# %% [markdown]
# ## CV

# %%
oof = np.zeros(len(train_df))
test_pred = np.zeros(len(test_df))
folds = KFold(n_splits=N_FOLDS, shuffle=True, random_state=SEED)

for fold, (tr_idx, va_idx) in enumerate(folds.split(train_df)):
    tr, va = train_df.iloc[tr_idx], train_df.iloc[va_idx]

    # everything that is fitted is fitted on the fold's training rows
    medians = tr[FEATURES].median()
    scaler = StandardScaler().fit(tr[FEATURES].fillna(medians))
    X_tr, X_va, X_te = (prepare(part, medians, scaler) for part in (tr, va, test_df))
    y_mean, y_std = float(tr[TARGET].mean()), float(tr[TARGET].std())
    y_tr = torch.tensor(((tr[TARGET] - y_mean) / y_std).values, dtype=torch.float32).unsqueeze(1)

    loader = DataLoader(TensorDataset(X_tr, y_tr), batch_size=BATCH, shuffle=True)
    model = HouseNet(len(FEATURES))
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
    criterion = nn.MSELoss()

    best_rmse, best_state = float("inf"), None
    for epoch in range(EPOCHS):
        train_loss = train_epoch(model, loader, optimizer, criterion)
        scheduler.step()
        va_rmse = rmse(va[TARGET], predict(model, X_va, y_mean, y_std))
        if va_rmse < best_rmse:
            best_rmse, best_state = va_rmse, copy.deepcopy(model.state_dict())
        if epoch % 10 == 9:
            print(f"fold {fold} epoch {epoch + 1:3d} train loss {train_loss:.4f} valid RMSE {va_rmse:,.0f}")

    model.load_state_dict(best_state)
    oof[va_idx] = predict(model, X_va, y_mean, y_std)
    test_pred += predict(model, X_te, y_mean, y_std) / N_FOLDS
    print(f"fold {fold}: best RMSE {best_rmse:,.0f}")

# %%
print(f"OOF RMSE  {rmse(train_df[TARGET], oof):,.0f}")
print(f"test RMSE {rmse(test_df[TARGET], test_pred):,.0f}")
print(f"of the mean {rmse(test_df[TARGET], np.full(len(test_df), train_df[TARGET].mean())):,.0f}")
