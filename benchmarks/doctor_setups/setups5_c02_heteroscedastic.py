"""House prices with an uncertainty for each: mean and variance, Gaussian negative log likelihood."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


class Standardizer:
    """Keeps mean and standard deviation of the training rows."""

    def fit(self, values):
        self.mean = values.mean(0, keepdim=True)
        self.std = values.std(0, keepdim=True).clamp(min=1e-6)
        return self

    def __call__(self, values):
        return (values - self.mean) / self.std


class MeanVarianceNet(nn.Module):
    def __init__(self, in_features, hidden=48, min_logvar=-8.0, max_logvar=4.0):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(in_features, hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(),
        )
        self.mean = nn.Linear(hidden, 1)
        self.logvar = nn.Linear(hidden, 1)
        self.min_logvar, self.max_logvar = min_logvar, max_logvar

    def forward(self, x):
        hidden = self.body(x)
        mean = self.mean(hidden)
        logvar = self.logvar(hidden).clamp(self.min_logvar, self.max_logvar)
        return torch.cat([mean, logvar], dim=1)


class GaussianNLL(nn.Module):
    """0.5 * (log s^2 + (y - m)^2 / s^2); below zero once the network is sure and right."""

    def forward(self, outputs, targets):
        mean, logvar = outputs[:, 0], outputs[:, 1]
        targets = targets.view(-1)
        return 0.5 * (logvar + (targets - mean) ** 2 * torch.exp(-logvar)).mean()


def build_data(batch_size=64, n_train=1600):
    features, price = houses(1900, seed=3)
    price = price.unsqueeze(1)
    scale_x = Standardizer().fit(features[:n_train])
    scale_y = Standardizer().fit(price[:n_train])
    x, y = scale_x(features), scale_y(price)
    train = TensorDataset(x[:n_train], y[:n_train])
    val = TensorDataset(x[n_train:], y[n_train:])
    loaders = (
        DataLoader(train, batch_size=batch_size, shuffle=True),
        DataLoader(val, batch_size=256),
    )
    return loaders, scale_y


def build_optimizer(params):
    return torch.optim.AdamW(params, lr=3e-3, weight_decay=1e-2)


def setup():
    torch.manual_seed(1)
    (train, val), scale_y = build_data()
    model = MeanVarianceNet(8)
    return {
        "model": model,
        "train": train,
        "val": val,
        "loss": GaussianNLL(),
        "optimizer": build_optimizer,
        "task": "regress",
    }
