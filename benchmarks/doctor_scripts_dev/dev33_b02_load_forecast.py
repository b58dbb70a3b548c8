# %% [markdown]
# # Lab 7: Forecasting electricity demand with an LSTM
# We predict the demand of the next hour from the last 48 hours.

# %%
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(42)
rng = np.random.default_rng(42)

# %% [markdown]
# ## 1. The data
# Hourly demand (MW) and temperature (deg C) of a small town, about five months.

# %%
n_hours = 4000
t = np.arange(n_hours)
hour = t % 24
weekend = ((t // 24) % 7 >= 5).astype(float)

temp_noise = np.zeros(n_hours)
load_noise = np.zeros(n_hours)
for k in range(1, n_hours):
    temp_noise[k] = 0.95 * temp_noise[k - 1] + 0.8 * rng.standard_normal()
    load_noise[k] = 0.70 * load_noise[k - 1] + 5.0 * rng.standard_normal()

temperature = 14 + 5 * np.sin(2 * np.pi * (hour - 9) / 24) + temp_noise
demand = (
    420
    + 90 * np.sin(2 * np.pi * (hour - 7) / 24)
    + 35 * np.sin(4 * np.pi * (hour - 3) / 24)
    - 60 * weekend
    - 4 * (temperature - 14)
    + load_noise
)
print(f"demand: mean {demand.mean():.1f} MW, std {demand.std():.1f} MW")

# %% [markdown]
# ## 2. Features
# Demand and temperature are standardized with the statistics of the *training part only*.
# The hour of the day is given as a point on a circle.

# %%
raw = torch.tensor(
    np.stack(
        [demand, temperature, np.sin(2 * np.pi * hour / 24), np.cos(2 * np.pi * hour / 24), weekend],
        axis=1,
    ),
    dtype=torch.float32,
)
split = int(0.8 * n_hours)
mu, sigma = raw[:split, :2].mean(0), raw[:split, :2].std(0)

table = raw.clone()
table[:, :2] = (raw[:, :2] - mu) / sigma
train_table, val_table = table[:split], table[split:]

# %%
WINDOW = 48


class WindowDataset(Dataset):
    """Windows of the last hours, with the demand of the hour that follows."""

    def __init__(self, table, window=WINDOW):
        self.table = table
        self.window = window

    def __len__(self):
        return len(self.table) - self.window

    def __getitem__(self, i):
        x = self.table[i : i + self.window]
        y = self.table[i + self.window, 0]
        return x, y


train_loader = DataLoader(WindowDataset(train_table), batch_size=64, shuffle=True)
val_loader = DataLoader(WindowDataset(val_table), batch_size=256)

xb, yb = next(iter(train_loader))
print("one batch:", tuple(xb.shape), tuple(yb.shape))

# %% [markdown]
# ## 3. The model


# %%
class Forecaster(nn.Module):
    def __init__(self, n_features=5, hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, -1])


model = Forecaster()
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2)

# %% [markdown]
# ## 4. A baseline
# "The next hour is like this hour." Our network must do better than that.

# %%
val_mw = raw[split:, 0]
naive_mae = (val_mw[WINDOW:] - val_mw[WINDOW - 1 : -1]).abs().mean().item()
print(f"naive forecast: MAE {naive_mae:.2f} MW")

# %% [markdown]
# ## 5. Training

# %%
EPOCHS = 22
history = {"train": [], "val": [], "mae": []}

for epoch in range(1, EPOCHS + 1):
    model.train()
    total, count = 0.0, 0
    for xb, yb in train_loader:
        pred = model(xb)
        loss = criterion(pred.squeeze(-1), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(xb)
        count += len(xb)
    history["train"].append(total / count)

    model.eval()
    squared, absolute, count = 0.0, 0.0, 0
    with torch.no_grad():
        for xb, yb in val_loader:
            error = model(xb).squeeze(-1) - yb
            squared += error.pow(2).sum().item()
            absolute += error.abs().sum().item()
            count += len(xb)
    val_mse = squared / count
    mae_mw = absolute / count * sigma[0].item()
    scheduler.step(val_mse)
    history["val"].append(val_mse)
    history["mae"].append(mae_mw)
    print(f"Epoch {epoch:2d}: train MSE {history['train'][-1]:.4f}, val MSE {val_mse:.4f}, val MAE {mae_mw:.2f} MW")

# %% [markdown]
# ## 6. Result

# %%
print(f"LSTM {history['mae'][-1]:.2f} MW against {naive_mae:.2f} MW of the naive forecast")
