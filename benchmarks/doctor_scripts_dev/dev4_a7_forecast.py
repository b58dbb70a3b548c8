"""Electric load of the next twelve hours from the last 72: a GRU on windows that are normalized one by one."""

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

WINDOW, HORIZON = 72, 12
EPOCHS, BATCH, MAX_LR = 7, 64, 5e-3


def load_series(hours=24 * 7 * 20):
    rng = np.random.default_rng(11)
    t = np.arange(hours)
    day = 1.0 + 0.35 * np.sin(2 * np.pi * (t - 7) / 24) + 0.15 * np.sin(4 * np.pi * (t - 3) / 24)
    weekend = np.where((t // 24) % 7 >= 5, 0.75, 1.0)
    drift = np.cumsum(rng.normal(0, 4.0, hours))
    noise = np.zeros(hours)
    for i in range(1, hours):
        noise[i] = 0.8 * noise[i - 1] + rng.normal(0, 18)
    return torch.tensor(900 + 500 * day * weekend + drift + noise, dtype=torch.float32)


class WindowDataset(Dataset):
    """Yields the normalized past, the normalized future, and the mean and deviation to undo it."""

    def __init__(self, series, stride=1):
        self.series = series
        self.starts = list(range(0, len(series) - WINDOW - HORIZON + 1, stride))

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, i):
        s = self.starts[i]
        past = self.series[s : s + WINDOW]
        future = self.series[s + WINDOW : s + WINDOW + HORIZON]
        mean, std = past.mean(), past.std() + 1e-6
        return ((past - mean) / std).unsqueeze(-1), (future - mean) / std, mean, std


class GRUForecaster(nn.Module):
    def __init__(self, hidden=40, horizon=HORIZON):
        super().__init__()
        self.gru = nn.GRU(input_size=1, hidden_size=hidden, num_layers=1, batch_first=True)
        self.fc = nn.Sequential(nn.Linear(hidden, 64), nn.ReLU(), nn.Linear(64, horizon))

    def forward(self, x):
        out, _ = self.gru(x)
        return self.fc(out[:, -1])


def train_epoch(model, loader, criterion, optimizer, scheduler):
    model.train()
    total = 0.0
    for past, future, _, _ in loader:
        optimizer.zero_grad()
        loss = criterion(model(past), future)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        total += loss.item() * past.size(0)
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    absolute, naive, count = 0.0, 0.0, 0
    for past, future, mean, std in loader:
        mean, std = mean.unsqueeze(1), std.unsqueeze(1)
        pred = model(past) * std + mean
        true = future * std + mean
        yesterday = past[:, -24 : -24 + HORIZON, 0] * std + mean
        absolute += (pred - true).abs().sum().item()
        naive += (yesterday - true).abs().sum().item()
        count += true.numel()
    return absolute / count, naive / count


def main():
    torch.manual_seed(5)
    series = load_series()
    split = int(0.8 * len(series))
    train_set = WindowDataset(series[:split])
    val_set = WindowDataset(series[split:], stride=3)
    train_loader = DataLoader(train_set, batch_size=BATCH, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=128, shuffle=False)

    model = GRUForecaster()
    criterion = nn.MSELoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=MAX_LR, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=MAX_LR, epochs=EPOCHS, steps_per_epoch=len(train_loader)
    )
    for epoch in range(EPOCHS):
        loss = train_epoch(model, train_loader, criterion, optimizer, scheduler)
        mae, naive = evaluate(model, val_loader)
        print(f"Epoch {epoch + 1}/{EPOCHS} train mse {loss:.4f} | val MAE {mae:.1f} MW (same hour yesterday: {naive:.1f})")


if __name__ == "__main__":
    main()
