"""House prices with their uncertainty: the network gives mean and log variance of a normal distribution."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses

config = {"hidden": 32, "lr": 3e-3, "weight_decay": 1e-2, "batch_size": 64, "log_var_range": (-7.0, 3.0)}


def load(count, seed):
    """Prices are the less certain, the larger the sixth feature is."""
    features, price = houses(count, seed=seed)
    generator = torch.Generator().manual_seed(1000 + seed)
    noise = 15 * torch.exp(0.5 * features[:, 5]) * torch.randn(count, generator=generator)
    return features, price + noise


class Standardizer:
    def __init__(self, values):
        self.mean, self.std = values.mean(0), values.std(0)

    def __call__(self, values):
        return (values - self.mean) / self.std


class GaussianMLP(nn.Module):
    def __init__(self, inputs=8, hidden=32, log_var_range=(-7.0, 3.0)):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.mean = nn.Linear(hidden, 1)
        self.log_var = nn.Linear(hidden, 1)
        self.log_var_range = log_var_range

    def forward(self, x):
        h = self.trunk(x)
        log_var = self.log_var(h).clamp(*self.log_var_range)
        return torch.cat([self.mean(h), log_var], dim=1)


class GaussianNLL(nn.Module):
    """Negative log likelihood, without the constant."""

    def forward(self, outputs, targets):
        mean, log_var = outputs[:, 0], outputs[:, 1]
        nll = 0.5 * (log_var + (targets - mean) ** 2 / log_var.exp())
        return nll.mean()


def make_optimizer(params):
    return torch.optim.AdamW(params, lr=config["lr"], weight_decay=config["weight_decay"])


def setup():
    torch.manual_seed(11)
    train_x, train_y = load(1600, seed=0)
    val_x, val_y = load(400, seed=1)
    scale_x, scale_y = Standardizer(train_x), Standardizer(train_y)
    train_set = TensorDataset(scale_x(train_x), scale_y(train_y))
    val_set = TensorDataset(scale_x(val_x), scale_y(val_y))
    return {
        "model": GaussianMLP(8, config["hidden"], config["log_var_range"]),
        "train": DataLoader(train_set, batch_size=config["batch_size"], shuffle=True),
        "val": DataLoader(val_set, batch_size=200),
        "loss": GaussianNLL(),
        "optimizer": make_optimizer,
        "task": "regress",
    }
