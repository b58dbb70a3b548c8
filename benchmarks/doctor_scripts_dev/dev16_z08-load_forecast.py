"""Forecast the load of a small grid six hours ahead from the last two days, with a GRU.

Prints the error of every epoch and at the end the comparison with "same as yesterday".
"""
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


@dataclass
class Settings:
    hours: int = 24 * 110
    lookback: int = 48
    horizon: int = 6
    hidden: int = 32
    lr: float = 4e-3
    epochs: int = 9
    batch: int = 64
    seed: int = 17


def simulate_load(hours, seed):
    """Megawatts per hour: daily and weekly rhythm, slow growth, weather that wanders, measurement noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    day = np.sin(2 * np.pi * (t - 7) / 24) + 0.4 * np.sin(4 * np.pi * t / 24 + 0.5)
    weekend = ((t // 24) % 7 >= 5).astype(float)
    weather = np.zeros(hours)
    for i in range(1, hours):
        weather[i] = 0.985 * weather[i - 1] + 0.12 * rng.standard_normal()
    growth = 0.015 * t
    return (290 + growth + 42 * day * (1 - 0.35 * weekend) - 25 * weekend + 18 * weather + 4 * rng.standard_normal(hours)).astype("float32")


class Windows(Dataset):
    def __init__(self, series, lookback, horizon):
        self.series = torch.as_tensor(series)
        self.lookback, self.horizon = lookback, horizon

    def __len__(self):
        return len(self.series) - self.lookback - self.horizon + 1

    def __getitem__(self, i):
        past = self.series[i:i + self.lookback]
        future = self.series[i + self.lookback:i + self.lookback + self.horizon]
        return past.unsqueeze(-1), future


class Forecaster(nn.Module):
    def __init__(self, hidden, horizon):
        super().__init__()
        self.rnn = nn.GRU(input_size=1, hidden_size=hidden, batch_first=True)
        self.out = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, horizon))

    def forward(self, x):
        states, _ = self.rnn(x)
        return self.out(states[:, -1])


def run_epoch(model, loader, loss_fn, optimizer=None):
    model.train(optimizer is not None)
    total, n = 0.0, 0
    with torch.set_grad_enabled(optimizer is not None):
        for past, future in loader:
            loss = loss_fn(model(past), future)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            total += loss.item() * len(past)
            n += len(past)
    return total / n


def main():
    s = Settings()
    torch.manual_seed(s.seed)
    load = simulate_load(s.hours, s.seed)
    a, b = int(0.7 * len(load)), int(0.85 * len(load))
    mean, std = load[:a].mean(), load[:a].std()
    scaled = (load - mean) / std

    train_set = Windows(scaled[:a], s.lookback, s.horizon)
    val_set = Windows(scaled[a:b], s.lookback, s.horizon)
    test_set = Windows(scaled[b:], s.lookback, s.horizon)
    train_loader = DataLoader(train_set, batch_size=s.batch, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=256)
    test_loader = DataLoader(test_set, batch_size=256)

    model = Forecaster(s.hidden, s.horizon)
    optimizer = torch.optim.Adam(model.parameters(), lr=s.lr)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.2, patience=1)
    loss_fn = nn.SmoothL1Loss()

    for epoch in range(s.epochs):
        train_loss = run_epoch(model, train_loader, loss_fn, optimizer)
        val_loss = run_epoch(model, val_loader, loss_fn)
        scheduler.step(val_loss)
        print(f"epoch {epoch}: train {train_loss:.4f}  val {val_loss:.4f}  lr {optimizer.param_groups[0]['lr']:.1e}")

    model.eval()
    errors, naive, energy = [], [], []
    with torch.no_grad():
        for past, future in test_loader:
            errors.append((model(past) - future).abs())
            yesterday = past[:, s.lookback - 24:s.lookback - 24 + s.horizon, 0]
            naive.append((yesterday - future).abs())
            energy.append(future)
    mae = torch.cat(errors).mean().item() * std
    mae_naive = torch.cat(naive).mean().item() * std
    print(f"test MAE {mae:.1f} MW, same as yesterday {mae_naive:.1f} MW, spread of the load {torch.cat(energy).std().item() * std:.1f} MW")


if __name__ == "__main__":
    main()
