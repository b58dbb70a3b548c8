"""House prices with an uncertainty: a network that gives the mean and the spread of a normal distribution."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.distributions import Normal
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


@dataclass
class Config:
    hidden: int = 64
    epochs: int = 15
    batch_size: int = 32
    lr: float = 3e-3
    weight_decay: float = 1e-3
    seed: int = 3


class RunningMean:
    def __init__(self):
        self.total, self.count = 0.0, 0

    def add(self, value, count):
        self.total += value * count
        self.count += count

    def result(self):
        return self.total / self.count


class DensityNet(nn.Module):
    def __init__(self, features, hidden):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(features, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
        )
        self.mean = nn.Linear(hidden, 1)
        self.raw_scale = nn.Linear(hidden, 1)

    def forward(self, x):
        h = self.body(x)
        scale = nn.functional.softplus(self.raw_scale(h)) + 0.05
        return Normal(self.mean(h).squeeze(-1), scale.squeeze(-1))


def prepare(config):
    features, price = houses(1200, seed=0)
    X, y = features.numpy(), price.numpy()
    X_train, X_rest, y_train, y_rest = train_test_split(X, y, test_size=0.3, random_state=config.seed)
    X_val, X_test, y_val, y_test = train_test_split(X_rest, y_rest, test_size=0.5, random_state=config.seed)
    x_scaler = StandardScaler().fit(X_train)
    y_scaler = StandardScaler().fit(y_train[:, None])

    def dataset(X, y):
        inputs = torch.from_numpy(x_scaler.transform(X).astype(np.float32))
        targets = torch.from_numpy(y_scaler.transform(y[:, None])[:, 0].astype(np.float32))
        return TensorDataset(inputs, targets)

    sets = {"train": dataset(X_train, y_train), "val": dataset(X_val, y_val), "test": dataset(X_test, y_test)}
    return sets, y_scaler


def train_epoch(model, loader, optimizer):
    model.train()
    nll = RunningMean()
    for x, y in loader:
        optimizer.zero_grad()
        loss = -model(x).log_prob(y).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        nll.add(loss.item(), len(x))
    return nll.result()


@torch.no_grad()
def evaluate(model, loader, y_scaler):
    model.eval()
    nll = RunningMean()
    means, scales, targets = [], [], []
    for x, y in loader:
        dist = model(x)
        nll.add(-dist.log_prob(y).mean().item(), len(x))
        means.append(dist.mean)
        scales.append(dist.stddev)
        targets.append(y)
    means, scales, targets = torch.cat(means), torch.cat(scales), torch.cat(targets)
    inside = ((targets - means).abs() < 1.645 * scales).float().mean().item()
    predicted = y_scaler.inverse_transform(means.numpy()[:, None])[:, 0]
    actual = y_scaler.inverse_transform(targets.numpy()[:, None])[:, 0]
    return {
        "nll": nll.result(),
        "mae": mean_absolute_error(actual, predicted),
        "r2": r2_score(actual, predicted),
        "coverage90": inside,
    }


def main():
    config = Config()
    torch.manual_seed(config.seed)
    sets, y_scaler = prepare(config)
    train_loader = DataLoader(sets["train"], batch_size=config.batch_size, shuffle=True)
    val_loader = DataLoader(sets["val"], batch_size=128)
    test_loader = DataLoader(sets["test"], batch_size=128)

    model = DensityNet(8, config.hidden)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=2)

    best, best_state = float("inf"), copy.deepcopy(model.state_dict())
    for epoch in range(config.epochs):
        train_nll = train_epoch(model, train_loader, optimizer)
        metrics = evaluate(model, val_loader, y_scaler)
        scheduler.step(metrics["nll"])
        if metrics["nll"] < best:
            best, best_state = metrics["nll"], copy.deepcopy(model.state_dict())
        text = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        print(f"epoch {epoch:2d}  train nll {train_nll:.3f}  val: {text}")

    model.load_state_dict(best_state)
    text = "  ".join(f"{name} {value:.3f}" for name, value in evaluate(model, test_loader, y_scaler).items())
    print(f"test of the best epoch: {text}")


if __name__ == "__main__":
    main()
