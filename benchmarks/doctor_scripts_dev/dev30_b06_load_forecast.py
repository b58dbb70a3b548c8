"""Forecasts the load of a power grid six hours ahead with an LSTM."""

import copy

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


def make_load(hours=6000, seed=0):
    """Hourly load in MW: a daily cycle, a plant with a cycle of about 17 hours, and noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(hours)
    phase = np.cumsum(2 * np.pi / 17 + 0.02 * rng.normal(size=hours))
    noise = np.zeros(hours)
    for t in range(1, hours):
        noise[t] = 0.7 * noise[t - 1] + 4 * rng.normal()
    load = 420 + 60 * np.sin(2 * np.pi * time / 24) + 50 * np.sin(phase) + noise
    return torch.tensor(load, dtype=torch.float32)


def window_dataset(series, window, horizon):
    """Pairs of `window` hours and the value `horizon` hours after their last one."""
    inputs = series.unfold(0, window, 1)[: len(series) - window - horizon + 1]
    targets = series[window + horizon - 1 :]
    return TensorDataset(inputs.unsqueeze(-1), targets.unsqueeze(-1))


class Forecaster(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        output, _ = self.lstm(x)
        return self.head(output[:, -1])


class Trainer:
    def __init__(self, model, train_loader, valid_loader, scale, lr=3e-3, epochs=25):
        self.model = model
        self.train_loader = train_loader
        self.valid_loader = valid_loader
        self.scale = scale
        self.epochs = epochs
        self.criterion = nn.MSELoss()
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=8, gamma=0.4)
        self.best_mae = float("inf")
        self.best_state = None

    def train_epoch(self):
        self.model.train()
        losses = []
        for x, y in self.train_loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        self.scheduler.step()
        return sum(losses) / len(losses)

    @torch.no_grad()
    def mean_absolute_error(self, loader):
        self.model.eval()
        total, count = 0.0, 0
        for x, y in loader:
            total += (self.model(x) - y).abs().sum().item()
            count += y.numel()
        return self.scale * total / count

    def fit(self):
        for epoch in range(self.epochs):
            loss = self.train_epoch()
            mae = self.mean_absolute_error(self.valid_loader)
            if mae < self.best_mae:
                self.best_mae = mae
                self.best_state = copy.deepcopy(self.model.state_dict())
            print(f"epoch {epoch:2d} | train mse {loss:.4f} | valid mae {mae:.2f} MW | kept {self.best_mae:.2f}")
        self.model.load_state_dict(self.best_state)


def main():
    torch.manual_seed(0)
    window, horizon = 48, 6
    load = make_load()

    mean, std = load[:4200].mean(), load[:4200].std()
    scaled = (load - mean) / std
    train_set = window_dataset(scaled[:4200], window, horizon)
    valid_set = window_dataset(scaled[4200:5100], window, horizon)
    test_set = window_dataset(scaled[5100:], window, horizon)

    trainer = Trainer(
        Forecaster(),
        DataLoader(train_set, batch_size=64, shuffle=True),
        DataLoader(valid_set, batch_size=128),
        scale=std.item(),
    )
    trainer.fit()

    x, y = test_set.tensors
    naive = ((x[:, -1] - y).abs().mean() * std).item()
    test_mae = trainer.mean_absolute_error(DataLoader(test_set, batch_size=128))
    print(f"test mae {test_mae:.2f} MW, of the naive forecast {naive:.2f} MW")


if __name__ == "__main__":
    main()
