"""Day-ahead electricity load forecasting with an LSTM.

Hourly synthetic load, 72 hours of history in, the next 24 hours out.
"""
import copy
import math
import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset


@dataclass
class Config:
    seed: int = 7
    weeks: int = 40
    lookback: int = 72
    horizon: int = 24
    stride: int = 2
    hidden: int = 48
    dropout: float = 0.1
    batch_size: int = 64
    epochs: int = 12
    lr: float = 3e-3
    patience: int = 4
    clip: float = 1.0


def set_seed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def ar1(n, phi, sigma, rng):
    out = np.zeros(n)
    for i in range(1, n):
        out[i] = phi * out[i - 1] + sigma * rng.standard_normal()
    return out


def make_series(weeks, rng):
    n = weeks * 7 * 24
    t = np.arange(n)
    hour, day = t % 24, t // 24
    dow = day % 7
    temp = 14 + ar1(n, 0.995, 0.35, rng) + 4 * np.sin(2 * np.pi * (hour - 9) / 24)
    n_days = n // 24
    base = 90 + ar1(n_days, 0.92, 12, rng)[day]
    evening = 60 + ar1(n_days, 0.92, 16, rng)[day]
    load = 520 + base * np.sin(2 * np.pi * (hour - 8) / 24)
    load += evening * np.exp(-0.5 * ((hour - 19) / 2.0) ** 2)
    load -= 70 * (dow >= 5)
    load += 4 * np.abs(temp - 16)
    load += ar1(n, 0.8, 6, rng)
    feats = np.stack([
        load,
        temp,
        np.sin(2 * np.pi * hour / 24), np.cos(2 * np.pi * hour / 24),
        np.sin(2 * np.pi * dow / 7), np.cos(2 * np.pi * dow / 7),
    ], axis=1)
    return feats.astype(np.float32)


class WindowDataset(Dataset):
    """Windows whose targets lie inside [start, end)."""

    def __init__(self, values, start, end, lookback, horizon, stride):
        self.values = torch.from_numpy(values)
        self.lookback, self.horizon = lookback, horizon
        first = max(start, lookback)
        self.origins = list(range(first, end - horizon + 1, stride))

    def __len__(self):
        return len(self.origins)

    def __getitem__(self, idx):
        t = self.origins[idx]
        x = self.values[t - self.lookback:t]
        y = self.values[t:t + self.horizon, 0]
        return x, y


class LoadLSTM(nn.Module):
    def __init__(self, n_features, hidden, horizon, dropout):
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden, batch_first=True)
        self.head = nn.Sequential(
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, horizon))

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, -1])


class Trainer:
    def __init__(self, model, cfg, mean, std):
        self.model, self.cfg = model, cfg
        self.mean, self.std = float(mean), float(std)
        self.criterion = nn.MSELoss()
        self.optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimizer, factor=0.5, patience=1)

    def train_epoch(self, loader):
        self.model.train()
        total, count = 0.0, 0
        for x, y in loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.clip)
            self.optimizer.step()
            total += loss.item() * len(x)
            count += len(x)
        return total / count

    @torch.no_grad()
    def evaluate(self, loader):
        self.model.eval()
        sq_err, abs_err, count = 0.0, 0.0, 0
        for x, y in loader:
            pred = self.model(x)
            sq_err += ((pred - y) ** 2).sum().item()
            pred_mw, y_mw = pred * self.std + self.mean, y * self.std + self.mean
            abs_err += (pred_mw - y_mw).abs().sum().item()
            count += y.numel()
        return sq_err / count, abs_err / count

    def fit(self, train_loader, val_loader):
        best, best_state, bad = math.inf, None, 0
        for epoch in range(1, self.cfg.epochs + 1):
            train_loss = self.train_epoch(train_loader)
            val_loss, val_mae = self.evaluate(val_loader)
            self.scheduler.step(val_loss)
            print(f"epoch {epoch:2d}  train {train_loss:.4f}  val {val_loss:.4f}  "
                  f"val MAE {val_mae:.2f} MW  lr {self.optimizer.param_groups[0]['lr']:.1e}")
            if val_loss < best:
                best, bad = val_loss, 0
                best_state = copy.deepcopy(self.model.state_dict())
            else:
                bad += 1
                if bad >= self.cfg.patience:
                    print("early stop")
                    break
        self.model.load_state_dict(best_state)


def main():
    cfg = Config()
    set_seed(cfg.seed)
    raw = make_series(cfg.weeks, np.random.default_rng(cfg.seed))
    n = len(raw)
    n_train, n_val = int(0.7 * n), int(0.85 * n)
    mean, std = raw[:n_train].mean(0), raw[:n_train].std(0)
    values = (raw - mean) / std

    train_set = WindowDataset(values, 0, n_train, cfg.lookback, cfg.horizon, cfg.stride)
    val_set = WindowDataset(values, n_train, n_val, cfg.lookback, cfg.horizon, 6)
    test_set = WindowDataset(values, n_val, n, cfg.lookback, cfg.horizon, 6)
    train_loader = DataLoader(train_set, batch_size=cfg.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=128)
    test_loader = DataLoader(test_set, batch_size=128)

    model = LoadLSTM(values.shape[1], cfg.hidden, cfg.horizon, cfg.dropout)
    trainer = Trainer(model, cfg, mean[0], std[0])
    trainer.fit(train_loader, val_loader)

    _, test_mae = trainer.evaluate(test_loader)
    naive = np.mean([np.abs(raw[t:t + 24, 0] - raw[t - 24:t, 0]).mean() for t in test_set.origins])
    print(f"test MAE {test_mae:.2f} MW   same hour yesterday {naive:.2f} MW")


if __name__ == "__main__":
    main()
