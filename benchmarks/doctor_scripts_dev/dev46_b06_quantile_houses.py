# House prices: quantile regression with an MLP, stratified folds, out-of-fold predictions
import copy
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset

from toydata import houses


class CFG:
    seed = 2023
    n_fold = 4
    epochs = 40
    batch_size = 64
    lr = 3e-3
    dropout = 0.1
    quantiles = [0.1, 0.5, 0.9]


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def load_frame():
    x, price = houses(count=1000, seed=5)
    df = pd.DataFrame(x.numpy(), columns=[f"f{i}" for i in range(x.shape[1])])
    df.insert(0, "id", np.arange(len(df)))
    df["f2_x_f3"] = df["f2"] * df["f3"]
    df["price"] = price.numpy()
    df["price_bin"] = pd.qcut(df["price"], 10, labels=False)
    df["fold"] = -1
    skf = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
    for fold, (_, val_idx) in enumerate(skf.split(df, df["price_bin"])):
        df.loc[val_idx, "fold"] = fold
    return df


class HouseDataset(Dataset):
    def __init__(self, x, y):
        self.x = torch.tensor(x, dtype=torch.float32)
        self.y = torch.tensor(y, dtype=torch.float32)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class HouseNet(nn.Module):
    def __init__(self, n_features, n_out):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, 64),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Dropout(CFG.dropout),
            nn.Linear(64, 64),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Dropout(CFG.dropout),
            nn.Linear(64, n_out),
        )

    def forward(self, x):
        return self.layers(x)


class QuantileLoss(nn.Module):
    def __init__(self, quantiles):
        super().__init__()
        self.quantiles = quantiles

    def forward(self, preds, target):
        losses = []
        for i, q in enumerate(self.quantiles):
            errors = target - preds[:, i]
            losses.append(torch.max((q - 1) * errors, q * errors).mean())
        return sum(losses)


def train_fn(model, loader, criterion, optimizer, scheduler):
    model.train()
    total = 0.0
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(xb)
    return total / len(loader.dataset)


@torch.no_grad()
def valid_fn(model, loader, criterion):
    model.eval()
    total, preds = 0.0, []
    for xb, yb in loader:
        out = model(xb)
        total += criterion(out, yb).item() * len(xb)
        preds.append(out.numpy())
    return total / len(loader.dataset), np.concatenate(preds)


def run_fold(df, features, fold):
    tr, va = df[df["fold"] != fold], df[df["fold"] == fold]
    scaler = StandardScaler().fit(tr[features].values)
    x_tr, x_va = scaler.transform(tr[features].values), scaler.transform(va[features].values)
    mu, sigma = tr["price"].mean(), tr["price"].std()
    y_tr = ((tr["price"] - mu) / sigma).values
    y_va = ((va["price"] - mu) / sigma).values

    train_loader = DataLoader(HouseDataset(x_tr, y_tr), batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(HouseDataset(x_va, y_va), batch_size=CFG.batch_size, shuffle=False)
    model = HouseNet(len(features), len(CFG.quantiles))
    criterion = QuantileLoss(CFG.quantiles)
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=CFG.lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader)
    )

    best_loss, best_state = np.inf, None
    for epoch in range(CFG.epochs):
        train_loss = train_fn(model, train_loader, criterion, optimizer, scheduler)
        valid_loss, _ = valid_fn(model, valid_loader, criterion)
        if valid_loss < best_loss:
            best_loss, best_state = valid_loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    _, preds = valid_fn(model, valid_loader, criterion)
    print(f"fold {fold}: last train loss {train_loss:.4f}, best valid loss {best_loss:.4f}")
    return va.index.values, preds * sigma + mu


def pinball(y, preds):
    errors = y[:, None] - preds
    q = np.array(CFG.quantiles)
    return np.maximum((q - 1) * errors, q * errors).mean(axis=0)


if __name__ == "__main__":
    seed_everything(CFG.seed)
    df = load_frame()
    features = [c for c in df.columns if c not in ("id", "price", "price_bin", "fold")]
    oof = np.zeros((len(df), len(CFG.quantiles)))
    for fold in range(CFG.n_fold):
        idx, preds = run_fold(df, features, fold)
        oof[idx] = preds
    y = df["price"].values
    print("OOF pinball:", dict(zip(CFG.quantiles, pinball(y, oof).round(2))))
    print(f"OOF MAE of the median: {np.abs(y - oof[:, 1]).mean():.2f} (prices vary by {y.std():.2f})")
    print(f"coverage of the 80 % interval: {((y >= oof[:, 0]) & (y <= oof[:, 2])).mean():.3f}")
