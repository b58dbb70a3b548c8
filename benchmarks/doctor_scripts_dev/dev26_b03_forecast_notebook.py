# # Forecasting hourly load with a GRU
# (exported from a notebook)

# %%
import math

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
rng = np.random.default_rng(0)

# %% [markdown]
# ## The data: a daily and a weekly rhythm, and noise that lasts for some hours

# %%
hours = np.arange(4000)
noise = np.zeros(len(hours))
for i in range(1, len(hours)):
    noise[i] = 0.9 * noise[i - 1] + rng.normal(0, 4)
load = 420 + 60 * np.sin(2 * math.pi * hours / 24) + 30 * np.sin(2 * math.pi * hours / 168) + noise
series = torch.tensor(load, dtype=torch.float32)

# %%
n_train, n_valid = 2800, 3400
mean, std = series[:n_train].mean(), series[:n_train].std()
scaled = (series - mean) / std


# %% [markdown]
# ## Windows: 30 hours in, the next hour out. The three parts follow each other in time.

# %%
def make_windows(values, window=30):
    x = values.unfold(0, window, 1)[:-1].unsqueeze(-1)
    y = values[window:]
    return TensorDataset(x, y)


train_set = make_windows(scaled[:n_train])
valid_set = make_windows(scaled[n_train:n_valid])
test_set = make_windows(scaled[n_valid:])
print(len(train_set), len(valid_set), len(test_set))

train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
valid_loader = DataLoader(valid_set, batch_size=256)
test_loader = DataLoader(test_set, batch_size=256)


# %%
class Forecaster(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        out, _ = self.gru(x)
        return self.head(out[:, -1]).squeeze(-1)


model = Forecaster()
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
epochs = 45
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)


# %%
def mean_absolute_error(loader):
    """In the units of the series."""
    model.eval()
    error, count = 0.0, 0
    with torch.no_grad():
        for x, y in loader:
            error += float(((model(x) - y).abs() * std).sum())
            count += len(y)
    return error / count


values = series[n_train:n_valid]
print(f"valid, the last hour again: MAE {(values[1:] - values[:-1]).abs().mean():.2f}")

# %%
history = []
for epoch in range(epochs):
    model.train()
    running = 0.0
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running += loss.item() * len(y)
    scheduler.step()
    history.append(mean_absolute_error(valid_loader))
    print(f"epoch {epoch + 1:2d}: train MSE {running / len(train_set):.4f}, valid MAE {history[-1]:.2f}")

# %%
print(f"test MAE {mean_absolute_error(test_loader):.2f}")
