"""Forecasts of many hourly series with quantiles: GRU encoder, pinball loss, windows scaled by themselves, split by time."""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

CONTEXT, HORIZON, PERIOD = 72, 12, 24
QUANTILES = torch.tensor([0.1, 0.5, 0.9])


class Split(NamedTuple):
    first: int  # the first hour that is forecast
    last: int


def make_series(n=40, hours=1400, seed=0):
    """Load curves: a level, a day of own shape, a week, an autoregressive disturbance and noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    series = []
    for _ in range(n):
        level, amplitude, phase = rng.uniform(50, 500), rng.uniform(0.15, 0.4), rng.uniform(0, 2 * np.pi)
        day = np.sin(2 * np.pi * t / PERIOD + phase) + 0.4 * np.sin(4 * np.pi * t / PERIOD + rng.uniform(0, 6.28))
        week = 0.1 * np.sin(2 * np.pi * t / (7 * PERIOD) + rng.uniform(0, 6.28))
        ar = np.zeros(hours)
        shocks = rng.normal(0, 0.03, hours)
        for i in range(1, hours):
            ar[i] = 0.9 * ar[i - 1] + shocks[i]
        series.append(level * (1 + amplitude * day + week + ar + rng.normal(0, 0.02, hours)))
    return torch.tensor(np.array(series), dtype=torch.float32)


class Windows(Dataset):
    """(context, hours of the day, future). The future of a window lies in the split; its context may reach before."""

    def __init__(self, series, split, stride):
        self.series = series
        starts = range(split.first, split.last - HORIZON + 1, stride)
        self.index = [(s, t) for s in range(len(series)) for t in starts]

    def __len__(self):
        return len(self.index)

    def __getitem__(self, i):
        s, t = self.index[i]
        hours = torch.arange(t - CONTEXT, t + HORIZON).float() * (2 * torch.pi / PERIOD)
        return self.series[s, t - CONTEXT : t], torch.stack([hours.sin(), hours.cos()], -1), self.series[s, t : t + HORIZON]


class QuantileGRU(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.encoder = nn.GRU(3, hidden, batch_first=True)
        self.decoder = nn.Sequential(nn.Linear(hidden + 2 * HORIZON, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, HORIZON * len(QUANTILES)))

    def forward(self, context, hours):
        # by the window's own mean and deviation, and back (as RevIN does)
        mean, std = context.mean(1, keepdim=True), context.std(1, keepdim=True) + 1e-3
        scaled = (context - mean) / std
        _, h = self.encoder(torch.cat([scaled.unsqueeze(-1), hours[:, :CONTEXT]], -1))
        out = self.decoder(torch.cat([h[-1], hours[:, CONTEXT:].flatten(1)], 1)).view(-1, HORIZON, len(QUANTILES))
        median, spread = out[..., 1:2], nn.functional.softplus(out[..., [0, 2]])  # quantiles never cross
        out = torch.cat([median - spread[..., :1], median, median + spread[..., 1:]], -1)
        # forecasts in units of the window, and what takes them back
        return out, mean, std


def pinball(forecast, target):
    error = target.unsqueeze(-1) - forecast
    return torch.maximum(QUANTILES * error, (QUANTILES - 1) * error).mean()


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    absolute = naive = inside = total = 0.0
    for context, hours, future in loader:
        out, mean, std = model(context, hours)
        forecast = out * std.unsqueeze(-1) + mean.unsqueeze(-1)
        yesterday = context[:, -PERIOD : -PERIOD + HORIZON]
        absolute += ((forecast[..., 1] - future).abs() / mean).sum().item()
        naive += ((yesterday - future).abs() / mean).sum().item()
        inside += ((future >= forecast[..., 0]) & (future <= forecast[..., 2])).sum().item()
        total += future.numel()
    return absolute / total, naive / total, inside / total


def main():
    torch.manual_seed(0)
    series = make_series()
    train_split, val_split = Split(CONTEXT, 1100), Split(1100, 1400)
    train_loader = DataLoader(Windows(series, train_split, stride=8), batch_size=64, shuffle=True, drop_last=True)
    val_loader = DataLoader(Windows(series, val_split, stride=12), batch_size=250)
    model = QuantileGRU()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-4)
    epochs = 14
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, epochs=epochs, steps_per_epoch=len(train_loader))
    print(f"{len(train_loader.dataset)} windows to train on, {len(val_loader.dataset)} to validate")
    for epoch in range(epochs):
        model.train()
        losses = []
        for context, hours, future in train_loader:
            out, mean, std = model(context, hours)
            loss = pinball(out, (future - mean) / std)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
        error, naive, coverage = evaluate(model, val_loader)
        print(f"epoch {epoch:2d} pinball {np.mean(losses):.4f} | val relative MAE {error:.4f} (yesterday's: {naive:.4f}) coverage of 80 % band {coverage:.3f}")


if __name__ == "__main__":
    main()
