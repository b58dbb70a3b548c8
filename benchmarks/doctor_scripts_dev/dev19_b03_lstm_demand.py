import math
import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

LOOKBACK = 48
BATCH_SIZE = 64
EPOCHS = 15
LEARNING_RATE = 3e-3


def set_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def make_series(hours=3600):
    """Hourly demand for electricity: a daily and a weekly rhythm, weather that drifts, noise."""
    rng = np.random.default_rng(7)
    t = np.arange(hours)
    daily = 120 * np.sin(2 * np.pi * t / 24) + 60 * np.sin(4 * np.pi * t / 24 + 1)
    weekly = 40 * np.sin(2 * np.pi * t / 168)
    weather = np.zeros(hours)
    for i in range(1, hours):
        weather[i] = 0.95 * weather[i - 1] + rng.normal(0, 8)
    return (900 + daily + weekly + weather + rng.normal(0, 4, hours)).astype(np.float32)


class WindowDataset(Dataset):
    """Windows of `lookback` values, each with the value that follows it."""

    def __init__(self, values, lookback):
        self.values = torch.as_tensor(values, dtype=torch.float32)
        self.lookback = lookback

    def __len__(self):
        return len(self.values) - self.lookback

    def __getitem__(self, i):
        x = self.values[i : i + self.lookback].unsqueeze(-1)
        y = self.values[i + self.lookback]
        return x, y


class Forecaster(nn.Module):
    def __init__(self, input_size=1, hidden_size=48, num_layers=1):
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.head = nn.Linear(hidden_size, 1)

    def forward(self, x):
        out, _ = self.lstm(x)
        out = out[:, -1]
        return self.head(out).squeeze(-1)


def train_one_epoch(model, loader, criterion, optimizer):
    model.train()
    losses = []
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def evaluate(model, loader, mean, std):
    """Root mean squared error and mean absolute error in megawatts."""
    model.eval()
    squared, absolute, count = 0.0, 0.0, 0
    with torch.no_grad():
        for x, y in loader:
            prediction = model(x) * std + mean
            error = prediction - (y * std + mean)
            squared += (error**2).sum().item()
            absolute += error.abs().sum().item()
            count += error.numel()
    return math.sqrt(squared / count), absolute / count


def main():
    set_seed(0)
    series = make_series()
    split = int(0.8 * len(series))
    train_part, valid_part = series[:split], series[split:]

    mean, std = float(train_part.mean()), float(train_part.std())
    train_set = WindowDataset((train_part - mean) / std, LOOKBACK)
    valid_set = WindowDataset((valid_part - mean) / std, LOOKBACK)
    train_loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)
    valid_loader = DataLoader(valid_set, batch_size=BATCH_SIZE)

    naive = math.sqrt(float(np.mean((valid_part[LOOKBACK:] - valid_part[LOOKBACK - 1 : -1]) ** 2)))
    print(f"naive forecast (value of the hour before): rmse {naive:.2f}")

    model = Forecaster()
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS, eta_min=1e-4)

    for epoch in range(1, EPOCHS + 1):
        train_loss = train_one_epoch(model, train_loader, criterion, optimizer)
        rmse, mae = evaluate(model, valid_loader, mean, std)
        scheduler.step()
        print(f"epoch {epoch:2d}  train mse {train_loss:.4f}  valid rmse {rmse:.2f} MW  mae {mae:.2f} MW")

    print(f"skill against the naive forecast: {1 - rmse / naive:.1%}")


if __name__ == "__main__":
    main()
