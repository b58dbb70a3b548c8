# %% House prices with a small network - notebook version 4 (everything at the top level)
import copy

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

import toydata

SEED = 2024
BATCH = 32
EPOCHS = 80
LR = 1e-3
PATIENCE = 15
DTYPE = torch.float32
np.random.seed(SEED)
torch.manual_seed(SEED)

# %% the table, in the units that people use
raw, price = toydata.houses(count=1000, seed=3)
raw = raw.double().numpy()
df = pd.DataFrame(
    {
        "living_area": 1500 + 350 * raw[:, 0],
        "age": 30 + 8 * raw[:, 1],
        "lot_frontage": 70 + 15 * raw[:, 2],
        "quality": 6 + 1.3 * raw[:, 3],
        "latitude": 42 + 0.02 * raw[:, 4],
        "garage_area": 470 + 120 * raw[:, 5],
        "distance": 9 + 2.5 * raw[:, 6],
        "rooms": 6.5 + 1.2 * raw[:, 7],
    }
)
df["price"] = 1000 * price.double().numpy()
FEATURES = [column for column in df.columns if column != "price"]
print(df.describe().T[["mean", "std", "min", "max"]])

# %% split, scale
train_df, test_df = train_test_split(df, test_size=0.2, random_state=SEED)
train_df, valid_df = train_test_split(train_df, test_size=0.2, random_state=SEED)
scaler_x = StandardScaler().fit(train_df[FEATURES].values)
scaler_y = StandardScaler().fit(train_df[["price"]].values)


def to_tensors(frame):
    x = torch.tensor(scaler_x.transform(frame[FEATURES].values), dtype=DTYPE)
    y = torch.tensor(scaler_y.transform(frame[["price"]].values).ravel(), dtype=DTYPE)
    return x, y


x_train, y_train = to_tensors(train_df)
x_valid, y_valid = to_tensors(valid_df)
train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=BATCH, shuffle=True)
valid_loader = DataLoader(TensorDataset(x_valid, y_valid), batch_size=80)


# %% the network
class HouseNet(nn.Module):
    def __init__(self, n_features, hidden=64):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(n_features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.net(x).squeeze(-1)


model = HouseNet(len(FEATURES)).to(DTYPE)
criterion = nn.MSELoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=5)


def run_validation():
    model.eval()
    total = 0.0
    with torch.no_grad():
        for xb, yb in valid_loader:
            total += criterion(model(xb), yb).item() * len(xb)
    return total / len(valid_loader.dataset)


def predict_dollars(frame):
    model.eval()
    with torch.no_grad():
        scaled = model(to_tensors(frame)[0]).float().numpy()
    return scaler_y.inverse_transform(scaled.reshape(-1, 1)).ravel()


# %% training with early stopping
best_loss, best_state, wait = float("inf"), None, 0
history = []
for epoch in range(EPOCHS):
    model.train()
    running = 0.0
    for xb, yb in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        running += loss.item() * len(xb)

    train_loss = running / len(train_loader.dataset)
    valid_loss = run_validation()
    scheduler.step(valid_loss)
    history.append({"epoch": epoch, "train": train_loss, "valid": valid_loss})
    if valid_loss < best_loss:
        best_loss, wait = valid_loss, 0
        best_state = copy.deepcopy(model.state_dict())
    else:
        wait += 1
        if wait >= PATIENCE:
            print(f"stopped early after epoch {epoch}")
            break
    if epoch % 10 == 0:
        print(f"epoch {epoch:3d}  train {train_loss:.4f}  valid {valid_loss:.4f}")

# %% how good is it?
model.load_state_dict(best_state)
print(pd.DataFrame(history).tail(3))
for name, frame in [("valid", valid_df), ("test", test_df)]:
    truth, guess = frame["price"].values, predict_dollars(frame)
    rmse = float(np.sqrt(mean_squared_error(truth, guess)))
    print(f"{name}: RMSE {rmse:,.0f} dollars, R2 {r2_score(truth, guess):.3f}")
