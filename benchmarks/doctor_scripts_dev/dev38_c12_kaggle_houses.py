# House prices: MLP, 4 folds, out-of-fold predictions
# ====================================================
import os
import random
import warnings

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset

from toydata import houses

warnings.filterwarnings("ignore")


class CFG:
    seed = 2021
    n_fold = 4
    epochs = 35
    batch_size = 64
    hidden = 64
    max_lr = 6e-3
    weight_decay = 1e-3
    max_grad_norm = 5.0
    target = "price"


def seed_everything(seed):
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_frame(count, seed):
    features, price = houses(count, seed=seed)
    frame = pd.DataFrame(features.numpy(), columns=[f"f{i}" for i in range(features.shape[1])])
    frame[CFG.target] = price.numpy()
    return frame


class HouseDataset(Dataset):
    def __init__(self, X, y=None):
        self.X = torch.tensor(X, dtype=torch.float32)
        self.y = None if y is None else torch.tensor(y, dtype=torch.float32)

    def __len__(self):
        return len(self.X)

    def __getitem__(self, idx):
        return self.X[idx] if self.y is None else (self.X[idx], self.y[idx])


class MLP(nn.Module):
    def __init__(self, n_features, hidden):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(n_features, hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.net(x)


def train_fn(loader, model, criterion, optimizer, scheduler):
    model.train()
    total, count = 0.0, 0
    for xb, yb in loader:
        optimizer.zero_grad(set_to_none=True)
        pred = model(xb).squeeze(1)
        loss = criterion(pred, yb)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CFG.max_grad_norm)
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(yb)
        count += len(yb)
    return total / count


@torch.no_grad()
def inference_fn(loader, model):
    model.eval()
    return torch.cat([model(xb).squeeze(1) for xb in loader]).numpy()


def run_fold(fold, trn_idx, val_idx, train_df, test_df, feature_cols):
    x_scaler, y_scaler = StandardScaler(), StandardScaler()
    X_trn = x_scaler.fit_transform(train_df.loc[trn_idx, feature_cols].values)
    y_trn = y_scaler.fit_transform(train_df.loc[trn_idx, [CFG.target]].values)[:, 0]
    X_val = x_scaler.transform(train_df.loc[val_idx, feature_cols].values)
    y_val = train_df.loc[val_idx, CFG.target].values
    X_test = x_scaler.transform(test_df[feature_cols].values)

    trn_loader = DataLoader(HouseDataset(X_trn, y_trn), batch_size=CFG.batch_size, shuffle=True)
    val_loader = DataLoader(HouseDataset(X_val), batch_size=256)
    test_loader = DataLoader(HouseDataset(X_test), batch_size=256)

    model = MLP(len(feature_cols), CFG.hidden)
    criterion = nn.MSELoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.max_lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=CFG.max_lr, total_steps=CFG.epochs * len(trn_loader), pct_start=0.1)

    def in_thousands(scaled):
        return y_scaler.inverse_transform(scaled[:, None])[:, 0]

    for epoch in range(CFG.epochs):
        loss = train_fn(trn_loader, model, criterion, optimizer, scheduler)
        if (epoch + 1) % 7 == 0:
            rmse = mean_squared_error(y_val, in_thousands(inference_fn(val_loader, model))) ** 0.5
            print(f"fold {fold} epoch {epoch + 1} train loss {loss:.5f} val rmse {rmse:.3f}")
    return in_thousands(inference_fn(val_loader, model)), in_thousands(inference_fn(test_loader, model))


if __name__ == "__main__":
    seed_everything(CFG.seed)
    train_df, test_df = make_frame(1500, seed=0), make_frame(300, seed=1)
    feature_cols = [c for c in train_df.columns if c != CFG.target]

    oof, test_preds = np.zeros(len(train_df)), np.zeros(len(test_df))
    folds = KFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
    for fold, (trn_idx, val_idx) in enumerate(folds.split(train_df)):
        val_pred, test_pred = run_fold(fold, trn_idx, val_idx, train_df, test_df, feature_cols)
        oof[val_idx] = val_pred
        test_preds += test_pred / CFG.n_fold

    print(f"CV   rmse {mean_squared_error(train_df[CFG.target], oof) ** 0.5:.3f} "
          f"R2 {r2_score(train_df[CFG.target], oof):.4f}")
    print(f"test rmse {mean_squared_error(test_df[CFG.target], test_preds) ** 0.5:.3f} "
          f"R2 {r2_score(test_df[CFG.target], test_preds):.4f}")
