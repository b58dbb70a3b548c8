# %% [markdown]
# # House prices with a small network
# Eight features, one price. EDA is in the other notebook; this one only trains.

# %%
import copy

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import toydata

SEED = 2024
EPOCHS = 40
BATCH_SIZE = 32
LR = 2e-3
DTYPE = torch.float32
device = torch.device("cpu")
np.random.seed(SEED)
torch.manual_seed(SEED)

# %%
features, price = toydata.houses(count=1200, seed=5)
FEATURES = ["area", "age", "floor", "view", "street", "garden", "tax", "noise"]
df = pd.DataFrame(features.numpy(), columns=FEATURES)
df["area"] = 120 + 30 * df["area"]
df["age"] = 40 + 12 * df["age"]
df["price"] = price.numpy() * 1000
df = df.sample(frac=1.0, random_state=SEED).reset_index(drop=True)
print(df.describe().round(2))

# %%
train_df, rest_df = train_test_split(df, test_size=0.3, random_state=SEED)
valid_df, test_df = train_test_split(rest_df, test_size=0.5, random_state=SEED)

scaler = StandardScaler().fit(train_df[FEATURES])
y_train = train_df["price"].to_numpy()
y_mean, y_std = y_train.mean(), y_train.std()


def to_dataset(frame):
    x = torch.tensor(scaler.transform(frame[FEATURES]), dtype=torch.float32)
    y = torch.tensor((frame["price"].to_numpy() - y_mean) / y_std, dtype=torch.float32)
    return TensorDataset(x, y)


train_loader = DataLoader(to_dataset(train_df), batch_size=BATCH_SIZE, shuffle=True)
valid_loader = DataLoader(to_dataset(valid_df), batch_size=64, shuffle=False)
test_loader = DataLoader(to_dataset(test_df), batch_size=64, shuffle=False)


# %%
class HouseNet(nn.Module):
    def __init__(self, n_features, hidden=96, p=0.1):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, hidden),
            nn.ReLU(),
            nn.Dropout(p),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(p),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.layers(x).squeeze(-1)


def predict(model, loader):
    """Predictions and truths in dollars."""
    model.eval()
    preds, trues = [], []
    with torch.no_grad():
        for xb, yb in loader:
            out = model(xb.to(device, DTYPE))
            preds.append(out.float().cpu().numpy())
            trues.append(yb.numpy())
    return np.concatenate(preds) * y_std + y_mean, np.concatenate(trues) * y_std + y_mean


def rmse(pred, true):
    return float(np.sqrt(np.mean((pred - true) ** 2)))


# %%
model = HouseNet(len(FEATURES)).to(device, DTYPE)
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=LR)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)

best_rmse, best_state = float("inf"), None
history = []
for epoch in range(EPOCHS):
    model.train()
    train_loss, rows = 0.0, 0
    for xb, yb in train_loader:
        xb, yb = xb.to(device, DTYPE), yb.to(device, DTYPE)
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() * len(xb)
        rows += len(xb)

    valid_pred, valid_true = predict(model, valid_loader)
    valid_rmse = rmse(valid_pred, valid_true)
    valid_r2 = r2_score(valid_true, valid_pred)
    scheduler.step()
    history.append({"epoch": epoch, "train_loss": train_loss / rows, "valid_rmse": valid_rmse, "valid_r2": valid_r2})
    if valid_rmse < best_rmse:
        best_rmse = valid_rmse
        best_state = copy.deepcopy(model.state_dict())

# %%
print(pd.DataFrame(history).iloc[::5].to_string(index=False))
model.load_state_dict(best_state)
test_pred, test_true = predict(model, test_loader)
print(f"best valid RMSE {best_rmse:,.0f}")
print(f"test RMSE {rmse(test_pred, test_true):,.0f}  MAE {mean_absolute_error(test_true, test_pred):,.0f}  R2 {r2_score(test_true, test_pred):.3f}")
