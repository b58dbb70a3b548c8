# %% [markdown]
# # House prices: MLP, 5 folds, average of the folds on the test set
# %%
import os
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset

from toydata import houses


class CFG:
    seed = 2024
    n_fold = 5
    epochs = 30
    batch_size = 64
    max_lr = 8e-3
    weight_decay = 1e-2
    hidden = 64
    dropout = 0.05


# %%
def seed_everything(seed):
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_frame(count, seed):
    features, price = houses(count=count, seed=seed)
    scales = np.array([1, 10, 100, 1, 0.1, 1, 5, 1000])
    frame = pd.DataFrame(features.numpy() * scales, columns=[f"f{i}" for i in range(8)])
    frame["price"] = price.numpy()
    return frame


def rmse(y_true, y_pred):
    return float(np.sqrt(np.mean((y_true - y_pred) ** 2)))


train = make_frame(1500, seed=0)
test = make_frame(300, seed=1)
feature_cols = [c for c in train.columns if c != "price"]
print(train.describe().T[["mean", "std", "min", "max"]].round(2))


# %%
class HouseDataset(Dataset):
    def __init__(self, X, y=None):
        self.X = torch.tensor(X, dtype=torch.float32)
        self.y = None if y is None else torch.tensor(y, dtype=torch.float32)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i] if self.y is None else (self.X[i], self.y[i])


class Model(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(n_features, CFG.hidden),
            nn.SiLU(),
            nn.Linear(CFG.hidden, CFG.hidden),
            nn.SiLU(),
            nn.Dropout(CFG.dropout),
            nn.Linear(CFG.hidden, 1),
        )

    def forward(self, x):
        return self.net(x).squeeze(1)


# %%
def train_fn(loader, model, criterion, optimizer, scheduler):
    model.train()
    total = 0.0
    for X, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(X), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(y)
    return total / len(loader.dataset)


@torch.no_grad()
def predict_fn(model, X):
    model.eval()
    return torch.cat([model(batch) for batch in DataLoader(HouseDataset(X), batch_size=256)]).numpy()


def run_fold(fold, train_idx, valid_idx):
    seed_everything(CFG.seed + fold)
    x_scaler, y_scaler = StandardScaler(), StandardScaler()
    X_train = x_scaler.fit_transform(train.loc[train_idx, feature_cols].values)
    y_train = y_scaler.fit_transform(train.loc[train_idx, ["price"]].values).ravel()
    X_valid = x_scaler.transform(train.loc[valid_idx, feature_cols].values)
    X_test = x_scaler.transform(test[feature_cols].values)

    loader = DataLoader(HouseDataset(X_train, y_train), batch_size=CFG.batch_size, shuffle=True)
    model = Model(len(feature_cols))
    criterion = nn.MSELoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.max_lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=CFG.max_lr, epochs=CFG.epochs, steps_per_epoch=len(loader)
    )
    for epoch in range(CFG.epochs):
        train_loss = train_fn(loader, model, criterion, optimizer, scheduler)
    valid_pred = y_scaler.inverse_transform(predict_fn(model, X_valid)[:, None]).ravel()
    test_pred = y_scaler.inverse_transform(predict_fn(model, X_test)[:, None]).ravel()
    score = rmse(train.loc[valid_idx, "price"].values, valid_pred)
    print(f"FOLD {fold}: last train loss {train_loss:.4f}  valid RMSE {score:.2f}")
    return valid_pred, test_pred


# %%
oof = np.zeros(len(train))
test_preds = np.zeros(len(test))
kfold = KFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
for fold, (train_idx, valid_idx) in enumerate(kfold.split(train)):
    valid_pred, test_pred = run_fold(fold, train_idx, valid_idx)
    oof[valid_idx] = valid_pred
    test_preds += test_pred / CFG.n_fold

# %%
price, test_price = train["price"].values, test["price"].values
print(f"OOF  RMSE {rmse(price, oof):.2f}  R2 {r2_score(price, oof):.4f}")
print(f"test RMSE {rmse(test_price, test_preds):.2f}  R2 {r2_score(test_price, test_preds):.4f}")
print(f"baseline (mean) RMSE {rmse(test_price, price.mean()):.2f}")
