"""Heteroscedastic regression: a mean and a variance for each sample."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split


class Config:
    n_samples = 2000
    n_features = 4
    hidden = 64
    lr = 3e-3
    batch_size = 64
    min_variance = 1e-3
    grad_clip = 5.0


def simulate(count, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, Config.n_features, generator=generator) * 2 - 1
    mean = torch.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2]
    sigma = 0.05 + 0.3 * (x[:, 3] > 0).float()
    y = mean + sigma * torch.randn(count, generator=generator)
    return x / 0.577, y.unsqueeze(1)


class MeanVarianceNetwork(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.min_variance = config.min_variance
        self.trunk = nn.Sequential(
            nn.Linear(config.n_features, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
        )
        self.mean = nn.Linear(config.hidden, 1)
        self.variance = nn.Linear(config.hidden, 1)

    def forward(self, x):
        hidden = self.trunk(x)
        variance = F.softplus(self.variance(hidden)) + self.min_variance
        return torch.cat([self.mean(hidden), variance], dim=1)


def gaussian_nll(outputs, targets):
    mean, variance = outputs[:, :1], outputs[:, 1:]
    nll = 0.5 * (variance.log() + (targets - mean) ** 2 / variance)
    return nll.mean()


def training_step(model, batch, optimizer, loss_fn):
    x, y = batch
    optimizer.zero_grad(set_to_none=True)
    loss = loss_fn(model(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), Config.grad_clip)
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(7)
    dataset = TensorDataset(*simulate(Config.n_samples, seed=7))
    train_set, val_set = random_split(dataset, [1700, 300])
    model = MeanVarianceNetwork(Config)
    return {
        "model": model,
        "train": DataLoader(train_set, batch_size=Config.batch_size, shuffle=True),
        "val": DataLoader(val_set, batch_size=150),
        "loss": gaussian_nll,
        "optimizer": torch.optim.Adam(model.parameters(), lr=Config.lr),
        "step": training_step,
        "task": "regress",
    }
