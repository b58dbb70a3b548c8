"""Hourly load forecasting: 48 hours in, the next 6 out. Windows of one series, split by time."""
import copy
import logging
import math
import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(levelname)s %(message)s")
log = logging.getLogger("forecast")
LOOKBACK, HORIZON = 48, 6


def make_series(hours=3000, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    load = 320 + 0.02 * t + 60 * np.sin(2 * np.pi * t / 24) + 25 * np.sin(2 * np.pi * t / 168) + 45 * np.sin(2 * np.pi * t / 17)
    noise = np.zeros(hours)
    for i in range(1, hours):
        noise[i] = 0.9 * noise[i - 1] + rng.normal() * 9
    return (load + noise).astype(np.float32), np.stack([np.sin(2 * np.pi * t / 24), np.cos(2 * np.pi * t / 24)], 1).astype(np.float32)


class StandardScaler:
    def fit(self, values):
        self.mean_, self.std_ = values.mean(), values.std()
        return self

    def transform(self, values):
        return (values - self.mean_) / self.std_

    def inverse_transform(self, values):
        return values * self.std_ + self.mean_


class WindowDataset(Dataset):
    def __init__(self, series, clock, start, stop):
        self.series, self.clock = torch.from_numpy(series), torch.from_numpy(clock)
        self.starts = range(start, stop - LOOKBACK - HORIZON + 1)

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, index):
        begin = self.starts[index]
        end = begin + LOOKBACK
        past = torch.cat([self.series[begin:end, None], self.clock[begin:end]], dim=1)
        return {"past": past, "clock_ahead": self.clock[end : end + HORIZON].flatten(), "future": self.series[end : end + HORIZON]}


class Forecaster(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(3, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden + 2 * HORIZON, 64), nn.SiLU(), nn.Linear(64, HORIZON))

    def forward(self, past, clock_ahead):
        states, _ = self.lstm(past)
        last = past[:, -1, :1]  # the network predicts the change from the last hour
        return last + self.head(torch.cat([states[:, -1], clock_ahead], dim=1))


class EarlyStopping:
    def __init__(self, patience=4, delta=0.0):
        self.patience, self.delta = patience, delta
        self.best, self.bad, self.weights = math.inf, 0, None

    def __call__(self, value, model):
        if value < self.best - self.delta:
            self.best, self.bad = value, 0
            self.weights = copy.deepcopy(model.state_dict())
        else:
            self.bad += 1
        return self.bad >= self.patience


def run_epoch(model, loader, criterion, optimizer=None):
    model.train(optimizer is not None)
    total, count = 0.0, 0
    with torch.set_grad_enabled(optimizer is not None):
        for batch in loader:
            loss = criterion(model(batch["past"], batch["clock_ahead"]), batch["future"])
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
                optimizer.step()
            total += loss.item() * len(batch["past"])
            count += len(batch["past"])
    return total / count


@torch.no_grad()
def mean_absolute_error(model, loader, scaler):
    model.eval()
    errors, naive = [], []
    for batch in loader:
        truth = scaler.inverse_transform(batch["future"])
        errors.append((scaler.inverse_transform(model(batch["past"], batch["clock_ahead"])) - truth).abs())
        naive.append((scaler.inverse_transform(batch["past"][:, -1:, 0]) - truth).abs())
    return torch.cat(errors).mean().item(), torch.cat(naive).mean().item()


def main():
    torch.manual_seed(0)
    raw, clock = make_series()
    cut, cut2 = 2000, 2500
    scaler = StandardScaler().fit(raw[:cut])
    series = scaler.transform(raw)
    train = WindowDataset(series, clock, 0, cut)
    valid = WindowDataset(series, clock, cut, cut2)
    test = WindowDataset(series, clock, cut2, len(series))
    loaders = {"train": DataLoader(train, batch_size=64, shuffle=True), "valid": DataLoader(valid, batch_size=128),
               "test": DataLoader(test, batch_size=128)}
    model = Forecaster()
    criterion = nn.HuberLoss(delta=1.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.5)
    stopper = EarlyStopping(patience=5)
    for epoch in range(14):
        train_loss = run_epoch(model, loaders["train"], criterion, optimizer)
        valid_loss = run_epoch(model, loaders["valid"], criterion)
        scheduler.step()
        log.info("epoch %d train %.4f valid %.4f", epoch, train_loss, valid_loss)
        if stopper(valid_loss, model):
            log.info("early stop")
            break
    model.load_state_dict(stopper.weights)
    mae, naive = mean_absolute_error(model, loaders["test"], scaler)
    log.info("test MAE %.2f MW (last value %.2f MW)", mae, naive)


if __name__ == "__main__":
    main()
