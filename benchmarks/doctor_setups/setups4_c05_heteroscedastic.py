"""Regression with a predicted variance: noise depends on the input."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


def simulate(count, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 4, generator=generator)
    mean = torch.sin(2 * x[:, 0]) + 0.7 * x[:, 1] - 0.4 * x[:, 2] * x[:, 1]
    sigma = 0.05 + 0.3 * torch.sigmoid(3 * x[:, 3])
    y = mean + sigma * torch.randn(count, generator=generator)
    return x, y


class MeanVarianceNet(nn.Module):
    """Gives (N, 2): mean and logarithm of the variance."""

    def __init__(self, inputs=4, hidden=64):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(inputs, hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(),
        )
        self.mean = nn.Linear(hidden, 1)
        self.log_variance = nn.Linear(hidden, 1)

    def forward(self, x):
        h = self.trunk(x)
        return torch.cat([self.mean(h), self.log_variance(h).clamp(-8.0, 4.0)], dim=1)


class GaussianNLL(nn.Module):
    def forward(self, outputs, targets):
        mean, log_variance = outputs[:, 0], outputs[:, 1]
        variance = log_variance.exp()
        nll = 0.5 * (log_variance + (targets - mean) ** 2 / variance)
        return nll.mean()


def train_step(model, batch, optimizer, criterion):
    x, y = batch
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(0)
    x, y = simulate(1500, seed=0)
    x_val, y_val = simulate(400, seed=1)
    center, spread = y.mean(), y.std()
    y, y_val = (y - center) / spread, (y_val - center) / spread
    model = MeanVarianceNet()
    return {
        "model": model,
        "train": DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True),
        "val": DataLoader(TensorDataset(x_val, y_val), batch_size=200),
        "loss": GaussianNLL(),
        "optimizer": torch.optim.Adam(model.parameters(), lr=3e-3),
        "step": train_step,
        "task": "regress",
    }
