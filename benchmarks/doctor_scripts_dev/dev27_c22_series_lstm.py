"""One-step forecast of a seasonal series with an LSTM; the last part in time is kept for validation."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset


def make_series(n=2600, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    daily = 10 * np.sin(2 * np.pi * t / 24)
    weekly = 6 * np.sin(2 * np.pi * t / 168 + 1)
    third = 4 * np.sin(2 * np.pi * t / 8)
    noise = np.zeros(n)
    for i in range(1, n):
        noise[i] = 0.5 * noise[i - 1] + 0.7 * rng.standard_normal()
    return (50 + daily + weekly + third + noise).astype(np.float32)


class Windows(Dataset):
    def __init__(self, values, lookback):
        self.values = torch.from_numpy(values)
        self.lookback = lookback

    def __len__(self):
        return len(self.values) - self.lookback

    def __getitem__(self, i):
        past = self.values[i:i + self.lookback]
        return past.unsqueeze(-1), self.values[i + self.lookback]


class Forecaster(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, num_layers=1, batch_first=True)
        self.fc = nn.Linear(hidden, 1)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.fc(out[:, -1]).squeeze(-1)


LOOKBACK, EPOCHS, BATCH = 36, 25, 32
torch.manual_seed(1)
series = make_series()
split = int(0.8 * len(series))
mu, sigma = series[:split].mean(), series[:split].std()
scaled = (series - mu) / sigma
train_set = Windows(scaled[:split], LOOKBACK)
val_set = Windows(scaled[split:], LOOKBACK)
train_loader = DataLoader(train_set, batch_size=BATCH, shuffle=True)
val_loader = DataLoader(val_set, batch_size=128, shuffle=False)

model = Forecaster()
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=8, gamma=0.4)
loss_fn = nn.MSELoss()

naive = np.abs(np.diff(series[split + LOOKBACK - 1:])).mean()
print(f"naive forecast (the last value): MAE {naive:.3f}")


def validate():
    model.eval()
    errors = []
    with torch.no_grad():
        for x, y in val_loader:
            errors.append((model(x) - y).abs())
    return torch.cat(errors).mean().item() * float(sigma)


for epoch in range(EPOCHS):
    model.train()
    losses = []
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = loss_fn(model(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    scheduler.step()
    print(f"Epoch {epoch + 1:02d} | train MSE {np.mean(losses):.4f} | val MAE {validate():.3f}")
