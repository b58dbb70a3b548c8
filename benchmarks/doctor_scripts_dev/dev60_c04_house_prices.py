"""Prices of houses from a table with gaps: a small network, fitted to standardized prices."""

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


@dataclass
class Config:
    rows: int = 1000
    missing: float = 0.08
    hidden: int = 64
    dropout: float = 0.05
    batch_size: int = 32
    epochs: int = 15
    max_lr: float = 5e-3
    weight_decay: float = 1e-3
    seed: int = 42


def load_table(cfg):
    """Features with gaps (NaN), prices in thousands."""
    features, price = houses(cfg.rows, seed=cfg.seed)
    features, price = features.numpy().copy(), price.numpy()
    rng = np.random.default_rng(cfg.seed)
    features[rng.random(features.shape) < cfg.missing] = np.nan
    return features.astype(np.float32), price.astype(np.float32)


class Standardizer:
    """Mean and deviation of what is there; gaps stay gaps."""

    def fit(self, values):
        self.mean, self.std = np.nanmean(values, axis=0), np.nanstd(values, axis=0) + 1e-6
        return self

    def transform(self, values):
        return (values - self.mean) / self.std

    def inverse(self, values):
        return values * self.std + self.mean


def fill_gaps(x):
    """Gaps become the mean, which is zero by now; further columns tell where they were."""
    gaps = torch.isnan(x)
    return torch.cat([torch.where(gaps, torch.zeros_like(x), x), gaps.float()], dim=1)


class PriceNet(nn.Module):
    def __init__(self, columns, hidden, dropout):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(2 * columns, hidden),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.body(x).squeeze(1)


def make_loader(x, y, batch_size, shuffle):
    inputs = fill_gaps(torch.from_numpy(x).float())
    return DataLoader(TensorDataset(inputs, torch.from_numpy(y).float()), batch_size, shuffle=shuffle)


@torch.no_grad()
def predict(model, loader):
    model.eval()
    outputs, targets = zip(*[(model(x), y) for x, y in loader])
    return torch.cat(outputs).numpy(), torch.cat(targets).numpy()


def run_epoch(model, loader, loss_fn, optimizer, scheduler):
    model.train()
    history = []
    for x, y in loader:
        loss = loss_fn(model(x), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        history.append((loss.item(), len(y)))
    return sum(value * n for value, n in history) / sum(n for _, n in history)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=Config.epochs)
    parser.add_argument("--hidden", type=int, default=Config.hidden)
    args = parser.parse_args()
    cfg = Config(epochs=args.epochs, hidden=args.hidden)
    torch.manual_seed(cfg.seed)

    features, price = load_table(cfg)
    x_train, x_val, y_train, y_val = train_test_split(features, price, test_size=0.2, random_state=cfg.seed)
    x_scaler, y_scaler = Standardizer().fit(x_train), Standardizer().fit(y_train)
    train_loader = make_loader(x_scaler.transform(x_train), y_scaler.transform(y_train), cfg.batch_size, True)
    val_loader = make_loader(x_scaler.transform(x_val), y_scaler.transform(y_val), 200, False)

    model = PriceNet(features.shape[1], cfg.hidden, cfg.dropout)
    loss_fn = nn.SmoothL1Loss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.max_lr, weight_decay=cfg.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=cfg.max_lr, epochs=cfg.epochs, steps_per_epoch=len(train_loader)
    )
    for epoch in range(cfg.epochs):
        train_loss = run_epoch(model, train_loader, loss_fn, optimizer, scheduler)
        predicted, truth = predict(model, val_loader)
        error = mean_absolute_error(y_scaler.inverse(truth), y_scaler.inverse(predicted))
        print(f"[{epoch + 1:02d}] loss {train_loss:.4f}  val R2 {r2_score(truth, predicted):.3f}  MAE {error:.1f}k")


if __name__ == "__main__":
    main()
