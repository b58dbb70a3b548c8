# House prices: a simple neural network baseline (upvote if it helps!)

# %% imports
import copy
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


# %% config
class CFG:
    seed = 2021
    epochs = 40
    train_bs = 40
    valid_bs = 100
    lr = 5e-3
    wd = 1e-3
    hidden = 64
    drop = 0.05


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)

# %% data
raw, price = houses(count=1200, seed=3)
FEATURES = ["LotArea", "Distance", "Rooms", "View", "Age", "Garage", "Noise", "Tax"]
df = pd.DataFrame(raw.numpy(), columns=FEATURES)
df["LotArea"] = 9000 + 2500 * df["LotArea"]
df["Distance"] = 12 + 3 * df["Distance"]
df["Tax"] = 1800 + 400 * df["Tax"]
df["SalePrice"] = 1000 * price.numpy()
print(df.describe().T[["mean", "std", "min", "max"]])

# %% split: to learn from, to choose the epoch, for the final score
rng = np.random.RandomState(CFG.seed)
order = rng.permutation(len(df))
idx_train = order[:800]
idx_valid = order[800:1000]
idx_test = order[1000:]

scaler = StandardScaler().fit(df.loc[idx_train, FEATURES])
X = scaler.transform(df[FEATURES]).astype(np.float32)
y = df["SalePrice"].values.astype(np.float32)
y_mean, y_std = y[idx_train].mean(), y[idx_train].std()


def make_loader(idx, batch_size, shuffle):
    target = (y[idx] - y_mean) / y_std
    ds = TensorDataset(torch.from_numpy(X[idx]), torch.from_numpy(target))
    return DataLoader(ds, batch_size=batch_size, shuffle=shuffle)


train_loader = make_loader(idx_train, CFG.train_bs, shuffle=True)
valid_loader = make_loader(idx_valid, CFG.valid_bs, shuffle=False)
test_loader = make_loader(idx_test, CFG.valid_bs, shuffle=False)


# %% model
class HouseNet(nn.Module):
    def __init__(self, num_features):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(num_features, CFG.hidden),
            nn.BatchNorm1d(CFG.hidden),
            nn.SiLU(),
            nn.Dropout(CFG.drop),
            nn.Linear(CFG.hidden, CFG.hidden),
            nn.SiLU(),
            nn.Linear(CFG.hidden, 1),
        )

    def forward(self, x):
        return self.layers(x).squeeze(-1)


def train_fn(model, loader, optimizer, scheduler, criterion):
    model.train()
    total = 0.0
    for xb, yb in loader:
        optimizer.zero_grad()
        out = model(xb)
        loss = criterion(out, yb)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(xb)
    return total / len(loader.dataset)


def predict(model, loader):
    model.eval()
    preds = []
    with torch.no_grad():
        for xb, _ in loader:
            preds.append(model(xb).reshape(-1).numpy())
    return np.concatenate(preds) * y_std + y_mean


def rmse_score(idx, preds):
    return float(np.sqrt(np.mean((y[idx] - preds) ** 2)))


# %% training
model = HouseNet(len(FEATURES))
criterion = nn.MSELoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.wd)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=CFG.lr, epochs=CFG.epochs, steps_per_epoch=len(train_loader), pct_start=0.1
)

best_rmse = np.inf
best_state = copy.deepcopy(model.state_dict())
for epoch in range(CFG.epochs):
    train_loss = train_fn(model, train_loader, optimizer, scheduler, criterion)
    rmse = rmse_score(idx_valid, predict(model, valid_loader))
    if rmse < best_rmse:
        best_rmse = rmse
        best_state = copy.deepcopy(model.state_dict())
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1:2d}  train loss {train_loss:.4f}  valid rmse {rmse:,.0f}  best {best_rmse:,.0f}")

# %% final score
model.load_state_dict(best_state)
test_rmse = rmse_score(idx_test, predict(model, test_loader))
print(f"CV: {best_rmse:,.0f}   hold-out: {test_rmse:,.0f}   (always the mean: {y[idx_test].std():,.0f})")
