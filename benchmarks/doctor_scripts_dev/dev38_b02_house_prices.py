# %% [markdown]
# # House prices with a small MLP
# Table -> stratified split -> scaling -> network with early stopping -> error in dollars.

# %%
import copy

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

import toydata

SEED = 2024
np.random.seed(SEED)
torch.manual_seed(SEED)

# %%
raw, price = toydata.houses(count=1500, seed=7)
raw = raw.numpy()
df = pd.DataFrame(
    {
        "area_m2": 140 + 30 * raw[:, 0],
        "age_years": 45 + 12 * raw[:, 1],
        "garden_m2": 400 + 90 * raw[:, 2],
        "view_score": 5 + 1.5 * raw[:, 3],
        "facing_deg": 180 + 50 * raw[:, 4],
        "center_km": 12 + 3 * raw[:, 5],
        "tax": 900 + 150 * raw[:, 6],
        "floors": 2 + 0.5 * raw[:, 7],
    }
)
df["price"] = 1000 * price.numpy()
print(df.describe().T[["mean", "std", "min", "max"]].round(1))

# %% [markdown]
# Stratify by price decile so that every part has cheap and expensive houses.

# %%
bands = pd.qcut(df["price"], 10, labels=False)
train_df, test_df = train_test_split(df, test_size=0.2, random_state=SEED, stratify=bands)
train_df, val_df = train_test_split(train_df, test_size=0.2, random_state=SEED, stratify=bands[train_df.index])

FEATURES = [column for column in df.columns if column != "price"]
print(len(FEATURES), "features;", len(train_df), "train,", len(val_df), "val,", len(test_df), "test")

# %%
x_scaler = StandardScaler().fit(train_df[FEATURES])
y_scaler = StandardScaler().fit(train_df[["price"]])


def to_tensors(frame):
    x = torch.tensor(x_scaler.transform(frame[FEATURES]), dtype=torch.float32)
    y = torch.tensor(y_scaler.transform(frame[["price"]])[:, 0], dtype=torch.float32)
    return x, y


x_train, y_train = to_tensors(train_df)
x_val, y_val = to_tensors(val_df)
x_test, _ = to_tensors(test_df)

train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=32, shuffle=True)


# %%
class PriceNet(nn.Module):
    def __init__(self, n_in, hidden=64):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_in, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.layers(x).squeeze(1)


def predict(model, x):
    model.eval()
    with torch.no_grad():
        pred = model(x).numpy()
    return y_scaler.inverse_transform(pred.reshape(-1, 1)).ravel()


# %%
EPOCHS, PATIENCE = 80, 15
model = PriceNet(len(FEATURES))
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-5)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=5)

history = []
best_val, best_weights, waited = np.inf, None, 0
for epoch in range(1, EPOCHS + 1):
    model.train()
    total = 0.0
    for xb, yb in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(xb), yb)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(xb)

    model.eval()
    with torch.no_grad():
        val_loss = criterion(model(x_val), y_val).item()
    scheduler.step(val_loss)
    history.append({"epoch": epoch, "train": total / len(x_train), "val": val_loss})

    if val_loss < best_val:
        best_val, best_weights, waited = val_loss, copy.deepcopy(model.state_dict()), 0
    else:
        waited += 1
    if epoch % 10 == 0:
        print(f"epoch {epoch:3d}  train {history[-1]['train']:.4f}  val {val_loss:.4f}")
    if waited >= PATIENCE:
        print("early stop at epoch", epoch)
        break

# %%
model.load_state_dict(best_weights)
for name, frame, x in (("val", val_df, x_val), ("test", test_df, x_test)):
    guess, truth = predict(model, x), frame["price"].to_numpy()
    print(f"{name}: MAE {mean_absolute_error(truth, guess):,.0f} $  R2 {r2_score(truth, guess):.4f}")

print(pd.DataFrame(history).set_index("epoch").tail(3))
