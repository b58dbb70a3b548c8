"""Day-ahead load forecasting: a LightningModule-like forecaster and its data module, without the framework."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


def simulate_load(hours=1900, seed=3):
    """Hourly load of a region, in MW."""
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    noise = np.zeros(hours)
    for i in range(1, hours):
        noise[i] = 0.9 * noise[i - 1] + rng.normal(0, 60)
    weekend = ((t // 24) % 7 >= 5).astype(float)
    daily = 900 * np.sin(2 * np.pi * (t - 7) / 24) + 350 * np.sin(4 * np.pi * (t - 3) / 24)
    return 5200 + daily * (1 - 0.4 * weekend) - 500 * weekend + noise


class StandardScaler:
    def fit(self, values):
        self.mean, self.std = values.mean(), values.std()
        return self

    def transform(self, values):
        return (values - self.mean) / self.std


class WindowDataset(Dataset):
    """`context` hours of covariates, then `horizon` hours of the target that follow."""

    def __init__(self, covariates, target, context, horizon):
        self.covariates = torch.as_tensor(covariates, dtype=torch.float32)
        self.target = torch.as_tensor(target, dtype=torch.float32)
        self.context, self.horizon = context, horizon

    def __len__(self):
        return len(self.target) - self.context - self.horizon + 1

    def __getitem__(self, i):
        end = i + self.context
        return self.covariates[i:end], self.target[end : end + self.horizon]


class LoadDataModule:
    def __init__(self, context=48, horizon=12, batch_size=32, train_hours=1500):
        self.context, self.horizon = context, horizon
        self.batch_size, self.train_hours = batch_size, train_hours

    def setup(self):
        load = simulate_load()
        hour = 2 * np.pi * (np.arange(len(load)) % 24) / 24
        scaler = StandardScaler().fit(load[: self.train_hours])
        scaled = scaler.transform(load)
        covariates = np.stack([scaled, np.sin(hour), np.cos(hour)], axis=1)
        target = scaled
        cut = self.train_hours
        self.train_set = WindowDataset(covariates[:cut], target[:cut], self.context, self.horizon)
        self.val_set = WindowDataset(covariates[cut:], target[cut:], self.context, self.horizon)

    def train_dataloader(self):
        return DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(self.val_set, batch_size=self.batch_size)


class LoadForecaster(nn.Module):
    def __init__(self, n_features=3, hidden=48, horizon=12, lr=3e-3, weight_decay=1e-6, clip_val=1.0):
        super().__init__()
        self.hparams = dict(lr=lr, weight_decay=weight_decay, clip_val=clip_val)
        self.encoder = nn.LSTM(n_features, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, horizon))

    def forward(self, x):
        last = x[:, -1:, 0]  # the forecast is a change from the last known hour
        _, (h_n, _) = self.encoder(x)
        context = h_n[-1]
        return last + self.head(context)

    def training_step(self, batch, criterion):
        x, y = batch
        y_hat = self(x)
        return criterion(y_hat, y)

    def configure_optimizers(self):
        hp = self.hparams
        return torch.optim.Adam(self.parameters(), lr=hp["lr"], weight_decay=hp["weight_decay"])


def fit_step(module, batch, optimizer, criterion):
    module.train()
    loss = module.training_step(batch, criterion)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), module.hparams["clip_val"])
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(2024)
    dm = LoadDataModule()
    dm.setup()
    module = LoadForecaster(horizon=dm.horizon)
    return {
        "model": module,
        "train": dm.train_dataloader(),
        "val": dm.val_dataloader(),
        "loss": nn.MSELoss(),
        "optimizer": module.configure_optimizers(),
        "step": fit_step,
        "task": "regress",
    }
