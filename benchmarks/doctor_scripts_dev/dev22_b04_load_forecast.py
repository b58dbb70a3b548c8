"""Forecast the mean load of a power grid over the next six hours from the last 36 hours."""

import os
import tempfile

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

WINDOW = 36
HORIZON = 6


def make_series(hours=4200, seed=7):
    """Hourly load in MW: days, weeks and slowly changing weather."""
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    weather = np.zeros(hours)
    for i in range(1, hours):
        weather[i] = 0.95 * weather[i - 1] + rng.normal(0, 3)
    weekend = ((t // 24) % 7) >= 5
    day = 60 * np.sin(2 * np.pi * (t - 8) / 24) + 20 * np.sin(4 * np.pi * (t - 3) / 24)
    return (500 + day * np.where(weekend, 0.8, 1.0) + weather + rng.normal(0, 4, hours)).astype(np.float32)


def make_windows(values):
    count = len(values) - WINDOW - HORIZON + 1
    x = np.stack([values[i : i + WINDOW] for i in range(count)])
    y = np.stack([values[i + WINDOW : i + WINDOW + HORIZON].mean() for i in range(count)])
    return torch.from_numpy(x).unsqueeze(-1), torch.from_numpy(y)


def split_in_time(count):
    """Training, validation, test, one after the other, with gaps so that no window reaches into the next part."""
    gap = WINDOW + HORIZON
    first, second = int(0.7 * count), int(0.85 * count)
    return np.arange(first), np.arange(first + gap, second), np.arange(second + gap, count)


class Forecaster(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, -1]).squeeze(-1)


class Trainer:
    def __init__(self, model, train_loader, val_loader, scale, epochs, checkpoint, lr=2e-3, patience=10):
        self.model, self.train_loader, self.val_loader = model, train_loader, val_loader
        self.scale = scale  # MW of one standard deviation
        self.epochs, self.patience = epochs, patience
        self.checkpoint = checkpoint
        self.criterion = nn.MSELoss()
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, factor=0.5, patience=2)
        self.best, self.waited = float("inf"), 0

    def train_one_epoch(self):
        self.model.train()
        total, seen = 0.0, 0
        for x, y in self.train_loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            total += loss.item() * len(x)
            seen += len(x)
        return total / seen

    @torch.no_grad()
    def predict(self, loader):
        self.model.eval()
        outputs = [(self.model(x), y) for x, y in loader]
        return torch.cat([p for p, _ in outputs]), torch.cat([y for _, y in outputs])

    def score(self, loader):
        prediction, target = self.predict(loader)
        mse = ((prediction - target) ** 2).mean()
        return self.scale * mse.sqrt().item(), 1 - (mse / target.var(unbiased=False)).item()

    def save(self):
        # the keys of our older Lightning runs, so that the plotting scripts read both
        torch.save({"model." + k: v for k, v in self.model.state_dict().items()}, self.checkpoint)

    def fit(self):
        for epoch in range(1, self.epochs + 1):
            train_loss = self.train_one_epoch()
            rmse, r2 = self.score(self.val_loader)
            self.scheduler.step(rmse)
            print(f"[{epoch:02d}/{self.epochs}] train mse {train_loss:.4f} | val rmse {rmse:.2f} MW | val R2 {r2:.4f}")
            if rmse < self.best:
                self.best, self.waited = rmse, 0
                self.save()
            else:
                self.waited += 1
                if self.waited > self.patience:
                    print("early stop")
                    break


def load_forecaster(path):
    model = Forecaster()
    state = torch.load(path)
    model.load_state_dict({k.removeprefix("model."): v for k, v in state.items()})
    return model


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    series = make_series()
    train_idx, val_idx, test_idx = split_in_time(len(series) - WINDOW - HORIZON + 1)
    mean, std = series[: len(train_idx)].mean(), series[: len(train_idx)].std()
    x, y = make_windows((series - mean) / std)

    train_loader = DataLoader(TensorDataset(x[train_idx], y[train_idx]), batch_size=32, shuffle=True)
    val_loader = DataLoader(TensorDataset(x[val_idx], y[val_idx]), batch_size=256)
    test_loader = DataLoader(TensorDataset(x[test_idx], y[test_idx]), batch_size=256)

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "best.pt")
        trainer = Trainer(Forecaster(), train_loader, val_loader, float(std), epochs=30, checkpoint=path)
        trainer.fit()
        trainer.model = load_forecaster(path)
    rmse, r2 = trainer.score(test_loader)
    print(f"best checkpoint on the test months: rmse {rmse:.2f} MW, R2 {r2:.4f}")


if __name__ == "__main__":
    main()
