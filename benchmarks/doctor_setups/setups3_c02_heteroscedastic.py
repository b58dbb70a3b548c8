"""Regression with a predicted variance: the network gives mean and log variance, trained by the Gaussian likelihood."""

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CFG = {"samples": 1600, "features": 4, "hidden": 64, "batch_size": 64, "beta": 0.5}


def sensor_readings(count, features, seed=0):
    """Readings whose noise grows with the second feature."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, size=(count, features))
    clean = 2 * np.sin(1.5 * x[:, 0]) + x[:, 1] * x[:, 2] - 0.5 * x[:, 3]
    sigma = 0.1 + 0.15 * (x[:, 1] + 2)
    y = clean + sigma * rng.standard_normal(count)
    return x.astype(np.float32), y.astype(np.float32)[:, None]


class Standardizer:
    def fit(self, values):
        self.mean, self.std = values.mean(0), values.std(0)
        return self

    def __call__(self, values):
        return torch.from_numpy((values - self.mean) / self.std)


class MeanVarianceNet(nn.Module):
    def __init__(self, features, hidden):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.mean = nn.Linear(hidden, 1)
        self.log_variance = nn.Linear(hidden, 1)

    def forward(self, x):
        h = self.body(x)
        return torch.cat([self.mean(h), self.log_variance(h).clamp(-6, 4)], dim=1)


class GaussianLikelihood(nn.Module):
    """Negative log likelihood without its constant."""

    def __init__(self, beta):
        super().__init__()
        self.beta = beta

    def forward(self, outputs, targets):
        mean, log_variance = outputs[:, :1], outputs[:, 1:]
        nll = 0.5 * (log_variance + (targets - mean) ** 2 * torch.exp(-log_variance))
        return nll.mean()


def setup():
    torch.manual_seed(1)
    x, y = sensor_readings(CFG["samples"], CFG["features"])
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.25, random_state=1)
    scale_x, scale_y = Standardizer().fit(x_train), Standardizer().fit(y_train)
    train_set = TensorDataset(scale_x(x_train), scale_y(y_train))
    val_set = TensorDataset(scale_x(x_val), scale_y(y_val))
    model = MeanVarianceNet(CFG["features"], CFG["hidden"])
    return {
        "model": model,
        "train": DataLoader(train_set, batch_size=CFG["batch_size"], shuffle=True),
        "val": DataLoader(val_set, batch_size=200),
        "loss": GaussianLikelihood(CFG["beta"]),
        "optimizer": lambda params: torch.optim.Adam(params, lr=3e-3),
        "task": "regress",
    }
