# House prices: a simple NN baseline (please upvote if you like it!)
import copy
import random

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

import toydata


class CFG:
    seed = 2021
    epochs = 40
    batch_size = 32
    lr = 5e-3
    weight_decay = 1e-4
    hidden = 96
    dropout = 0.1
    patience = 15


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


seed_everything(CFG.seed)

# ## 1. Load
raw, price = toydata.houses(count=1600)
columns = ["area", "age", "rooms", "floor", "sun", "garage", "slope", "noise"]
df = pd.DataFrame(raw.numpy(), columns=columns)
df["area"] = 120 + 40 * df["area"]
df["age"] = 45 + 14 * df["age"]
df["noise"] = 55 + 6 * df["noise"]
df["price"] = price.numpy() * 1000
print(df.describe().round(2))

# ## 2. Prepare
features = [c for c in df.columns if c != "price"]
train_df, valid_df = train_test_split(df, test_size=0.2, random_state=CFG.seed)
scaler = StandardScaler()
X_train = scaler.fit_transform(train_df[features]).astype("float32")
X_valid = scaler.transform(valid_df[features]).astype("float32")

y_mean, y_std = train_df["price"].mean(), train_df["price"].std()
y_train = ((train_df["price"].values - y_mean) / y_std).astype("float32")
y_valid = valid_df["price"].values

train_ds = TensorDataset(torch.from_numpy(X_train), torch.from_numpy(y_train))
valid_ds = TensorDataset(torch.from_numpy(X_valid), torch.from_numpy(y_valid.astype("float32")))
train_loader = DataLoader(train_ds, batch_size=CFG.batch_size, shuffle=True, drop_last=True)
valid_loader = DataLoader(valid_ds, batch_size=128, shuffle=False)


# ## 3. Model
class HouseNet(nn.Module):
    def __init__(self, n_features, hidden, dropout):
        super().__init__()
        self.layers = nn.Sequential(
            self.block(n_features, hidden, dropout),
            self.block(hidden, hidden, dropout),
            nn.Linear(hidden, 1),
        )

    @staticmethod
    def block(n_in, n_out, dropout):
        return nn.Sequential(nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.SiLU(), nn.Dropout(dropout))

    def forward(self, x):
        return self.layers(x).squeeze(-1)


model = HouseNet(len(features), CFG.hidden, CFG.dropout)
criterion = nn.MSELoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.3, patience=3)


# ## 4. Train
def train_fn(model, loader):
    model.train()
    total, n = 0.0, 0
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(xb)
        n += len(xb)
    return total / n


def valid_fn(model, loader):
    model.eval()
    preds = []
    with torch.no_grad():
        for xb, _ in loader:
            preds.append(model(xb).numpy())
    preds = np.concatenate(preds) * y_std + y_mean
    return np.sqrt(np.mean((preds - y_valid) ** 2)), preds


best_rmse, best_state, wait = np.inf, None, 0
for epoch in range(CFG.epochs):
    train_loss = train_fn(model, train_loader)
    rmse, _ = valid_fn(model, valid_loader)
    scheduler.step(rmse)
    if rmse < best_rmse:
        best_rmse, best_state, wait = rmse, copy.deepcopy(model.state_dict()), 0
    else:
        wait += 1
    print(f"Epoch {epoch + 1:02d} | loss {train_loss:.4f} | rmse {rmse:,.0f} | lr {optimizer.param_groups[0]['lr']:.1e}")
    if wait >= CFG.patience:
        print("early stopping")
        break

# ## 5. Result
model.load_state_dict(best_state)
rmse, oof = valid_fn(model, valid_loader)
baseline = np.sqrt(np.mean((y_valid - y_mean) ** 2))
print(f"CV rmse {rmse:,.0f} (always the mean: {baseline:,.0f}), R2 {1 - rmse**2 / baseline**2:.3f}")
