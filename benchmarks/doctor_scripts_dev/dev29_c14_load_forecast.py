# Day-ahead electric load: 48 hours in, 12 hours out, a GRU (course project, part 3)
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

np.random.seed(42)
torch.manual_seed(42)

HISTORY, HORIZON = 48, 12

# ---------------------------------------------------------------- data
hours = np.arange(24 * 220)
temperature = np.zeros(len(hours))
for t in range(1, len(hours)):
    temperature[t] = 0.98 * temperature[t - 1] + np.random.randn() * 0.5
hour_of_day, weekday = hours % 24, (hours // 24) % 7
load = (
    500
    + 90 * np.sin(2 * np.pi * (hour_of_day - 8) / 24)
    + 40 * np.sin(4 * np.pi * (hour_of_day - 5) / 24)
    - 60 * (weekday >= 5) * np.sin(np.pi * hour_of_day / 24)
    + 5 * temperature
    + 6 * np.random.randn(len(hours))
)

columns = np.stack([
    load,
    temperature,
    np.sin(2 * np.pi * hour_of_day / 24), np.cos(2 * np.pi * hour_of_day / 24),
    (weekday >= 5).astype(float),
    np.roll((weekday >= 5).astype(float), -HORIZON),  # the calendar is known in advance
], axis=1).astype(np.float32)

split = int(0.8 * len(hours))
mean, std = columns[:split].mean(0), columns[:split].std(0)
scaled = (columns - mean) / std


class Windows(Dataset):
    """Windows that begin in [start, stop) and end before `stop`."""

    def __init__(self, start, stop):
        self.starts = np.arange(start, stop - HISTORY - HORIZON + 1)

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, i):
        a = self.starts[i]
        b = a + HISTORY
        return torch.from_numpy(scaled[a:b]), torch.from_numpy(scaled[b : b + HORIZON, 0])


train_ds = Windows(0, split)
val_ds = Windows(split, len(hours))
train_dl = DataLoader(train_ds, batch_size=64, shuffle=True)
val_dl = DataLoader(val_ds, batch_size=256, shuffle=False)


# ---------------------------------------------------------------- model
class Forecaster(nn.Module):
    def __init__(self, features=6, hidden=48):
        super().__init__()
        self.gru = nn.GRU(features, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, 64), nn.ReLU(), nn.Linear(64, HORIZON))

    def forward(self, x):
        _, h = self.gru(x)
        return self.head(h[-1])


model = Forecaster()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.8)
criterion = nn.MSELoss()

# what a forecast must beat: the same hours of the day before
naive = np.mean([
    np.abs(load[b : b + HORIZON] - load[b - 24 : b - 24 + HORIZON]).mean() for b in val_ds.starts + HISTORY
])
print(f"seasonal naive MAE: {naive:.2f} MW")

# ---------------------------------------------------------------- training
for epoch in range(10):
    model.train()
    train_loss = 0.0
    for x, y in train_dl:
        optimizer.zero_grad()
        prediction = model(x)
        loss = criterion(prediction, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        train_loss += loss.item() * x.size(0)
    train_loss /= len(train_ds)
    scheduler.step()

    model.eval()
    absolute, count = 0.0, 0
    with torch.no_grad():
        for x, y in val_dl:
            absolute += (model(x) - y).abs().sum().item() * std[0]
            count += y.numel()
    print(f"epoch {epoch + 1:2d}: train mse {train_loss:.4f}  val MAE {absolute / count:.2f} MW")
