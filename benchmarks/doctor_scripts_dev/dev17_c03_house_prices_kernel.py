# %% [markdown]
# # House prices: PyTorch MLP baseline
# One fold of five, stratified by price bins.

# %%
import copy
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


class CFG:
    seed = 42
    n_fold = 5
    trn_fold = [0]
    epochs = 30
    batch_size = 64
    lr = 3e-3
    weight_decay = 1e-4
    hidden = 96
    dropout = 0.05
    patience = 8


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")


# %% load
def read_csv():
    features, price = houses(count=4000, seed=7)
    columns = ["living_area", "distance", "rooms", "condition", "age", "lot_size", "income", "tax"]
    offset = np.array([120.0, 12.0, 4.0, 5.0, 40.0, 9000.0, 52000.0, 350.0])
    scale = np.array([35.0, 4.0, 1.2, 1.5, 18.0, 3000.0, 14000.0, 90.0])
    frame = pd.DataFrame(features.numpy() * scale + offset, columns=columns)
    frame.insert(0, "id", np.arange(len(frame)))
    frame["price"] = price.numpy()
    return frame


df = read_csv()
df["price_bin"] = pd.qcut(df["price"], 10, labels=False)
df["fold"] = -1
skf = StratifiedKFold(n_splits=CFG.n_fold, shuffle=True, random_state=CFG.seed)
for fold, (_, val_idx) in enumerate(skf.split(df, df["price_bin"])):
    df.loc[val_idx, "fold"] = fold
FEATURES = [c for c in df.columns if c not in ("id", "price", "price_bin", "fold")]
print(df[FEATURES].describe().round(1))


# %% model
class MLP(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, CFG.hidden), nn.ReLU(), nn.Dropout(CFG.dropout),
            nn.Linear(CFG.hidden, CFG.hidden), nn.ReLU(), nn.Dropout(CFG.dropout),
            nn.Linear(CFG.hidden, 1),
        )

    def forward(self, x):
        return self.layers(x).squeeze(-1)


# %% helpers
def train_fn(model, loader, criterion, optimizer):
    model.train()
    running = 0.0
    for xb, yb in loader:
        xb, yb = xb.to(device), yb.to(device)
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        running += loss.item() * len(xb)
    return running / len(loader.dataset)


def predict_fn(model, loader):
    model.eval()
    preds = []
    with torch.no_grad():
        for xb, _ in loader:
            preds.append(model(xb.to(device)).cpu().numpy())
    return np.concatenate(preds)


def train_loop(df, fold):
    train_df, valid_df = df[df.fold != fold], df[df.fold == fold]
    scaler = StandardScaler().fit(train_df[FEATURES])
    x_train = scaler.transform(train_df[FEATURES])
    x_valid = scaler.transform(valid_df[FEATURES])
    y_mean, y_std = train_df["price"].mean(), train_df["price"].std()
    y_train = ((train_df["price"] - y_mean) / y_std).to_numpy()
    y_valid = ((valid_df["price"] - y_mean) / y_std).to_numpy()

    perm = np.random.permutation(len(x_train))
    x_train, y_train = x_train[perm], y_train[perm]

    as_tensors = lambda x, y: TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32))
    train_loader = DataLoader(as_tensors(x_train, y_train), batch_size=CFG.batch_size, shuffle=True)
    valid_loader = DataLoader(as_tensors(x_valid, y_valid), batch_size=256, shuffle=False)

    model = MLP(len(FEATURES)).to(device)
    criterion = nn.MSELoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=CFG.epochs)

    best_rmse, best_state, bad_epochs = float("inf"), None, 0
    target = valid_df["price"].to_numpy()
    for epoch in range(CFG.epochs):
        train_loss = train_fn(model, train_loader, criterion, optimizer)
        preds = predict_fn(model, valid_loader) * y_std + y_mean
        scheduler.step()
        rmse = mean_squared_error(target, preds) ** 0.5
        print(f"fold {fold} epoch {epoch + 1:2d}  train {train_loss:.4f}  rmse {rmse:.2f}")
        if rmse < best_rmse:
            best_rmse, best_state, bad_epochs = rmse, copy.deepcopy(model.state_dict()), 0
        else:
            bad_epochs += 1
            if bad_epochs >= CFG.patience:
                break
    model.load_state_dict(best_state)
    preds = predict_fn(model, valid_loader) * y_std + y_mean
    print(f"baseline rmse (mean) {np.std(target):.2f}")
    print(f"fold {fold}  rmse {best_rmse:.2f}  mae {mean_absolute_error(target, preds):.2f}  r2 {r2_score(target, preds):.4f}")
    return best_rmse


# %%
scores = [train_loop(df, fold) for fold in CFG.trn_fold]
print(f"CV {np.mean(scores):.3f}")
