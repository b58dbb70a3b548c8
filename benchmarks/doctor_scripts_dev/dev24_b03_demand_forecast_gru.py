"""Forecasts the demand for electricity of the next twelve hours from the last two days."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


@dataclass
class Config:
    hours: int = 5000
    train_end: int = 3600
    val_end: int = 4300
    lookback: int = 48
    horizon: int = 12
    hidden: int = 64
    dropout: float = 0.2
    batch_size: int = 64
    lr: float = 2e-3
    epochs: int = 20
    patience: int = 7
    seed: int = 0


def make_series(hours, seed):
    """Demand in MW, and what the calendar says: hour and day as angles."""
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    weekend = (t // 24) % 7 >= 5
    daily = 120 * np.sin(2 * np.pi * (t - 8) / 24) + 45 * np.sin(4 * np.pi * (t - 2) / 24)
    weather = np.zeros(hours)
    for i in range(1, hours):
        weather[i] = 0.97 * weather[i - 1] + rng.normal(0, 4)
    demand = 600 + daily * np.where(weekend, 0.6, 1.0) - 60 * weekend + weather + rng.normal(0, 6, hours)
    day, week = 2 * np.pi * t / 24, 2 * np.pi * t / (24 * 7)
    calendar = np.stack([np.sin(day), np.cos(day), np.sin(week), np.cos(week)], axis=1)
    return demand.astype(np.float32), calendar.astype(np.float32)


class WindowDataset(Dataset):
    def __init__(self, values, cfg):
        self.values = torch.from_numpy(values)
        self.lookback, self.horizon = cfg.lookback, cfg.horizon

    def __len__(self):
        return len(self.values) - self.lookback - self.horizon + 1

    def __getitem__(self, start):
        middle = start + self.lookback
        return self.values[start:middle], self.values[middle : middle + self.horizon, 0]


class Forecaster(nn.Module):
    def __init__(self, num_features, cfg):
        super().__init__()
        self.gru = nn.GRU(num_features, cfg.hidden)
        self.dropout = nn.Dropout(cfg.dropout)
        self.head = nn.Linear(cfg.hidden, cfg.horizon)

    def forward(self, x):
        # x: batch, time, features; the GRU wants time first
        _, hidden = self.gru(x.transpose(0, 1))
        return self.head(self.dropout(hidden[-1]))


class Trainer:
    def __init__(self, model, cfg, scale):
        self.model, self.cfg, self.scale = model, cfg, scale
        self.criterion = nn.MSELoss()
        self.optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, mode="min", factor=0.5, patience=2)
        self.best_mae, self.best_state, self.bad_epochs = float("inf"), None, 0

    def train_epoch(self, loader):
        self.model.train()
        losses = []
        for x, y in loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return sum(losses) / len(losses)

    @torch.no_grad()
    def evaluate(self, loader):
        """Mean absolute error in MW."""
        self.model.eval()
        total, count = 0.0, 0
        for x, y in loader:
            total += (self.model(x) - y).abs().sum().item()
            count += y.numel()
        return total / count * self.scale

    def fit(self, train_loader, val_loader):
        for epoch in range(1, self.cfg.epochs + 1):
            loss = self.train_epoch(train_loader)
            mae = self.evaluate(val_loader)
            self.scheduler.step(mae)
            lr = self.optimizer.param_groups[0]["lr"]
            print(f"epoch {epoch:2d}  train MSE {loss:.4f}  val MAE {mae:6.2f} MW  lr {lr:.1e}")
            if mae < self.best_mae:
                self.best_mae, self.bad_epochs = mae, 0
                self.best_state = copy.deepcopy(self.model.state_dict())
            else:
                self.bad_epochs += 1
                if self.bad_epochs >= self.cfg.patience:
                    print("no better for a while, stop")
                    break
        self.model.load_state_dict(self.best_state)


def seasonal_naive(demand, start):
    """Error of saying what was a day ago."""
    return float(np.abs(demand[start:] - demand[start - 24 : -24]).mean())


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    torch.set_num_threads(1)

    demand, calendar = make_series(cfg.hours, cfg.seed)
    mean, std = demand[: cfg.train_end].mean(), demand[: cfg.train_end].std()
    values = np.concatenate([((demand - mean) / std)[:, None], calendar], axis=1).astype(np.float32)

    train_set = WindowDataset(values[: cfg.train_end], cfg)
    val_set = WindowDataset(values[cfg.train_end : cfg.val_end], cfg)
    test_set = WindowDataset(values[cfg.val_end :], cfg)
    train_loader = DataLoader(train_set, batch_size=cfg.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=200)
    test_loader = DataLoader(test_set, batch_size=200)

    model = Forecaster(values.shape[1], cfg)
    trainer = Trainer(model, cfg, scale=float(std))
    trainer.fit(train_loader, val_loader)
    print(f"best val MAE {trainer.best_mae:.2f} MW, test MAE {trainer.evaluate(test_loader):.2f} MW")
    print(f"yesterday's value as forecast: {seasonal_naive(demand, cfg.val_end):.2f} MW")


if __name__ == "__main__":
    main()
