"""Regression with uncertainty: an ensemble of networks that predict a mean and a variance."""

import copy
import math

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

MEMBERS = 3
EPOCHS = 20
BATCH_SIZE = 64


def measure_plant(count=3000, seed=0):
    """Readings of a plant over ten minutes: unix time, pressure in Pa, temperature in K, four valves; the yield in kg."""
    rng = np.random.default_rng(seed)
    time = 1_700_000_000.0 + 600.0 * rng.random(count)
    pressure = rng.normal(101_300.0, 900.0, count)
    temperature = rng.normal(350.0, 12.0, count)
    valves = rng.random((count, 4))
    p, t = (pressure - 101_300.0) / 900.0, (temperature - 350.0) / 12.0
    mean = 1500 + 120 * np.sin(2 * np.pi * (time - 1_700_000_000.0) / 300.0) + 80 * p - 60 * t + 90 * valves[:, 0] * t
    noise = 15.0 + 45.0 * valves[:, 1]
    features = np.column_stack([time, pressure, temperature, valves])
    return features, mean + noise * rng.standard_normal(count)


class GaussianMLP(nn.Module):
    def __init__(self, inputs, hidden=64):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2)
        )

    def forward(self, x):
        out = self.net(x)
        mu, log_var = out[:, 0], out[:, 1]
        return mu, log_var.clamp(-8, 8)


def gaussian_nll(mu, log_var, y):
    return 0.5 * (log_var + (y - mu) ** 2 / log_var.exp() + math.log(2 * math.pi)).mean()


@torch.no_grad()
def predict(models, loader):
    """Mean and variance of the mixture of the members, and the targets."""
    for model in models:
        model.eval()
    means, variances, targets = [], [], []
    for x, y in loader:
        outputs = [model(x) for model in models]
        mus = torch.stack([mu for mu, _ in outputs])
        variance = torch.stack([log_var.exp() for _, log_var in outputs])
        mean = mus.mean(0)
        means.append(mean)
        variances.append((variance + mus**2).mean(0) - mean**2)
        targets.append(y.view(len(x)))
    return torch.cat(means), torch.cat(variances), torch.cat(targets)


def report(mean, variance, target, y_std):
    rmse = (mean - target).pow(2).mean().sqrt().item() * y_std
    nll = gaussian_nll(mean, variance.log(), target).item()
    covered = ((mean - target).abs() < 1.645 * variance.sqrt()).float().mean().item()
    return rmse, nll, covered


def train_member(index, train_loader, val_loader, y_std):
    torch.manual_seed(100 + index)
    model = GaussianMLP(train_loader.dataset.tensors[0].shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    best_nll, best_state = float("inf"), None
    for epoch in range(EPOCHS):
        model.train()
        total = 0.0
        for x, y in train_loader:
            mu, log_var = model(x)
            loss = gaussian_nll(mu, log_var, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        rmse, nll, covered = report(*predict([model], val_loader), y_std)
        if nll < best_nll:
            best_nll = nll
            best_state = copy.deepcopy(model.state_dict())
        print(
            f"member {index} epoch {epoch:2d} train nll {total / len(train_loader.dataset):6.3f}"
            f" val nll {nll:6.3f} rmse {rmse:6.1f} coverage {covered:.2f}"
        )
    if best_state is not None:
        model.load_state_dict(best_state)
    return model


def main():
    features, target = measure_plant()
    order = np.random.default_rng(1).permutation(len(target))
    train_idx, val_idx, test_idx = order[:2000], order[2000:2450], order[2450:]

    x_mean, x_std = features[train_idx].mean(0), features[train_idx].std(0)
    y_mean, y_std = target[train_idx].mean(), target[train_idx].std()
    x = torch.tensor((features - x_mean) / x_std, dtype=torch.float32)
    y = torch.tensor((target - y_mean) / y_std, dtype=torch.float32)

    train_set = TensorDataset(x[train_idx], y[train_idx])
    val_loader = DataLoader(TensorDataset(x[val_idx], y[val_idx]), batch_size=100)
    test_loader = DataLoader(TensorDataset(x[test_idx], y[test_idx]), batch_size=100)
    models = []
    for index in range(MEMBERS):
        train_loader = DataLoader(train_set, batch_size=BATCH_SIZE, shuffle=True)
        models.append(train_member(index, train_loader, val_loader, y_std))

    rmse, nll, covered = report(*predict(models, test_loader), y_std)
    baseline = (y[test_idx] - y[train_idx].mean()).pow(2).mean().sqrt().item() * y_std
    print(f"ensemble test rmse {rmse:.1f} (mean alone {baseline:.1f}) nll {nll:.3f} coverage of 90% {covered:.2f}")


if __name__ == "__main__":
    main()
