"""House prices from a table: an MLP with early stopping."""

import argparse
import copy

import numpy as np
import torch
from sklearn.metrics import mean_absolute_error, r2_score
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


class PriceNet(nn.Module):
    """Learns standardized prices; the statistics of the training prices travel with the weights."""

    def __init__(self, n_features, hidden=(64, 64), p=0.0):
        super().__init__()
        layers, width = [], n_features
        for h in hidden:
            layers += [nn.Linear(width, h), nn.SiLU()]
            if p > 0:
                layers += [nn.Dropout(p)]
            width = h
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, 1)
        self.register_buffer("y_mean", torch.zeros(()))
        self.register_buffer("y_std", torch.ones(()))

    def fit_target(self, y):
        self.y_mean.copy_(y.mean())
        self.y_std.copy_(y.std())

    def normalize(self, y):
        return (y - self.y_mean) / self.y_std

    def denormalize(self, z):
        return z * self.y_std + self.y_mean

    def forward(self, x):
        out = self.head(self.body(x)).squeeze(-1)
        return out


class EarlyStopping:
    def __init__(self, patience):
        self.patience, self.best, self.bad, self.state = patience, float("inf"), 0, None

    def __call__(self, value, model):
        if value < self.best:
            self.best, self.bad = value, 0
            self.state = copy.deepcopy(model.state_dict())
        else:
            self.bad += 1
        return self.bad >= self.patience


def split(x, y, seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))
    n_test, n_val = int(0.15 * len(x)), int(0.15 * len(x))
    parts = order[:n_test], order[n_test : n_test + n_val], order[n_test + n_val :]
    return [(x[torch.as_tensor(p)], y[torch.as_tensor(p)]) for p in parts]


@torch.no_grad()
def predict(model, loader):
    model.eval()
    preds, truth = [], []
    for x, y in loader:
        preds.append(model.denormalize(model(x)))
        truth.append(y)
    return torch.cat(preds).numpy(), torch.cat(truth).numpy()


def run_epoch(model, loader, optimizer, criterion):
    model.train()
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), model.normalize(y))
        loss.backward()
        optimizer.step()
        total += loss.item() * len(x)
    return total / len(loader.dataset)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--epochs", type=int, default=15)
    ap.add_argument("--batch_size", type=int, default=32)
    ap.add_argument("--lr", type=float, default=4e-3)
    ap.add_argument("--patience", type=int, default=6)
    ap.add_argument("--seed", type=int, default=42)
    cfg = ap.parse_args()

    torch.manual_seed(cfg.seed)
    x, y = houses(count=1800, seed=3)
    (x_test, y_test), (x_val, y_val), (x_train, y_train) = split(x, y, cfg.seed)

    mean, std = x_train.mean(0), x_train.std(0)
    x_train, x_val, x_test = [(t - mean) / std for t in (x_train, x_val, x_test)]

    train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=cfg.batch_size, shuffle=True)
    val_loader = DataLoader(TensorDataset(x_val, y_val), batch_size=256)
    test_loader = DataLoader(TensorDataset(x_test, y_test), batch_size=256)

    model = PriceNet(x_train.shape[1])
    model.fit_target(y_train)
    criterion = nn.SmoothL1Loss()
    optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=2)
    stopper = EarlyStopping(cfg.patience)

    for epoch in range(cfg.epochs):
        train_loss = run_epoch(model, train_loader, optimizer, criterion)
        pred, true = predict(model, val_loader)
        mae = mean_absolute_error(true, pred)
        scheduler.step(mae)
        print(f"[{epoch:02d}] train {train_loss:.4f} | val MAE {mae:.2f}k | val R2 {r2_score(true, pred):.3f}")
        if stopper(mae, model):
            print("early stop")
            break

    model.load_state_dict(stopper.state)
    pred, true = predict(model, test_loader)
    print(f"test MAE {mean_absolute_error(true, pred):.2f}k, R2 {r2_score(true, pred):.3f}")


if __name__ == "__main__":
    main()
