"""Regression on a table of houses: a residual MLP under bf16 autocast, early stopping, the best epoch kept in memory."""

import argparse
import copy
import logging

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from toydata import houses

logging.basicConfig(level=logging.INFO, format="%(message)s")
logger = logging.getLogger("tabular")


class ResBlock(nn.Module):
    def __init__(self, dim, hidden, dropout):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.ff = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, dim))

    def forward(self, x):
        return x + self.ff(self.norm(x.float()))  # norms in float32


class TabularResNet(nn.Module):
    """Knows mean and deviation of the training prices."""

    def __init__(self, d_in, dim, n_blocks, dropout, price_mean, price_std):
        super().__init__()
        self.price_mean, self.price_std = float(price_mean), float(price_std)
        self.first = nn.Linear(d_in, dim)
        self.blocks = nn.Sequential(*[ResBlock(dim, 2 * dim, dropout) for _ in range(n_blocks)])
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.ReLU(), nn.Linear(dim, 1))

    def normalize(self, price):
        return (price - self.price_mean) / self.price_std

    def denormalize(self, z):
        return z * self.price_std + self.price_mean

    def forward(self, x):
        z = self.head(self.blocks(self.first(x)).float()).float().squeeze(-1)
        return z


def load_data(seed):
    X, y = houses(count=1600, seed=seed)
    X, y = X.numpy().astype(np.float32), y.numpy().astype(np.float32)
    X_trainval, X_test, y_trainval, y_test = train_test_split(X, y, test_size=0.2, random_state=seed)
    X_train, X_val, y_train, y_val = train_test_split(X_trainval, y_trainval, test_size=0.2, random_state=seed)
    scaler = StandardScaler().fit(X_train)
    parts = {}
    for name, a, b in (("train", X_train, y_train), ("val", X_val, y_val), ("test", X_test, y_test)):
        parts[name] = (torch.from_numpy(scaler.transform(a).astype(np.float32)), torch.from_numpy(b))
    return parts


def iterate(X, y, batch_size, shuffle):
    order = torch.randperm(len(X)) if shuffle else torch.arange(len(X))
    for index in order.split(batch_size):
        yield X[index], y[index]


def compute_loss(model, x, y):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pred = model(x)
    return F.huber_loss(pred, model.normalize(y), delta=1.0)


@torch.no_grad()
def evaluate(model, X, y):
    model.eval()
    price = torch.cat([model.denormalize(model(x)) for x, _ in iterate(X, y, 256, shuffle=False)])
    rmse = F.mse_loss(price, y).sqrt().item()
    r2 = 1 - ((price - y) ** 2).sum().item() / ((y - y.mean()) ** 2).sum().item()
    return rmse, r2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-3)
    parser.add_argument("--patience", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    parts = load_data(args.seed)
    X_train, y_train = parts["train"]
    model = TabularResNet(
        X_train.shape[1], dim=48, n_blocks=2, dropout=0.05, price_mean=y_train.mean(), price_std=y_train.std()
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=2)

    best_rmse, best_state, waited = float("inf"), None, 0
    for epoch in range(args.epochs):
        model.train()
        total = 0.0
        for x, y in iterate(X_train, y_train, args.batch_size, shuffle=True):
            loss = compute_loss(model, x, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        rmse, r2 = evaluate(model, *parts["val"])
        scheduler.step(rmse)
        logger.info(f"epoch {epoch:2d} | train {total / len(X_train):.4f} | val RMSE {rmse:.2f} | val R2 {r2:.3f}")
        if rmse < best_rmse:
            best_rmse, best_state, waited = rmse, copy.deepcopy(model.state_dict()), 0
        else:
            waited += 1
            if waited >= args.patience:
                logger.info("no longer better, stopping")
                break
    model.load_state_dict(best_state)
    rmse, r2 = evaluate(model, *parts["test"])
    logger.info(f"test RMSE {rmse:.2f} | test R2 {r2:.3f}")


if __name__ == "__main__":
    main()
