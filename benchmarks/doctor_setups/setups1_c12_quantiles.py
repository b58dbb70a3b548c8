"""Quantile regression of house prices: three quantiles from one network, warm-up and cosine schedule."""

import math

import torch
from torch import nn

from toydata import houses

config = {
    "quantiles": (0.1, 0.5, 0.9),
    "hidden": 96,
    "lr": 3e-3,
    "min_lr": 3e-4,
    "warmup_steps": 20,
    "decay_steps": 1000,
    "weight_decay": 1e-3,
}


class StandardScaler:
    def fit(self, x):
        self.mean, self.std = x.mean(0), x.std(0)
        return self

    def transform(self, x):
        return (x - self.mean) / self.std


class QuantileNet(nn.Module):
    def __init__(self, size_in, hidden, n_quantiles):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(size_in, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, n_quantiles),
        )

    def forward(self, x):
        return self.net(x)


class PinballLoss(nn.Module):
    def __init__(self, quantiles):
        super().__init__()
        self.register_buffer("q", torch.tensor(quantiles))

    def forward(self, outputs, target):
        # (N, Q) against (N, 1): every quantile is compared with the target of its row
        error = target.reshape(-1, 1) - outputs
        return torch.maximum(self.q * error, (self.q - 1) * error).sum(dim=1).mean()


def learning_rate(count, cfg):
    if count < cfg["warmup_steps"]:
        return cfg["lr"] * (count + 1) / cfg["warmup_steps"]
    progress = min(1.0, (count - cfg["warmup_steps"]) / (cfg["decay_steps"] - cfg["warmup_steps"]))
    return cfg["min_lr"] + 0.5 * (cfg["lr"] - cfg["min_lr"]) * (1 + math.cos(math.pi * progress))


def step(model, batch, optimizer, loss):
    features, price = batch
    for group in optimizer.param_groups:
        count = group.setdefault("count", 0)
        group["lr"] = learning_rate(count, config)
        group["count"] = count + 1
    value = loss(model(features), price)
    optimizer.zero_grad()
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return value.detach()


def setup():
    torch.manual_seed(11)
    features, price = houses(1800, seed=80)
    train_x, train_y, val_x, val_y = features[:1400], price[:1400], features[1400:], price[1400:]
    scale_x, scale_y = StandardScaler().fit(train_x), StandardScaler().fit(train_y)
    model = QuantileNet(8, config["hidden"], len(config["quantiles"]))
    return {
        "model": model,
        "train": (scale_x.transform(train_x), scale_y.transform(train_y)),
        "val": (scale_x.transform(val_x), scale_y.transform(val_y)),
        "loss": PinballLoss(config["quantiles"]),
        "optimizer": torch.optim.AdamW(model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"]),
        "step": step,
        "task": "regress",
    }
