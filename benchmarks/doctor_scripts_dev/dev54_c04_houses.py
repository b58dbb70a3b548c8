"""House prices with an uncertainty: a network gives mean and variance of each price."""
import argparse
import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


class Standardizer:
    """Remembers mean and deviation of the training part."""

    def fit(self, values):
        self.mean, self.std = values.mean(0), values.std(0)
        return self

    def transform(self, values):
        return (values - self.mean) / self.std

    def inverse(self, values):
        return values * self.std + self.mean


class MeanVariance(nn.Module):
    def __init__(self, inputs, hidden=64):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
        )
        self.mean = nn.Linear(hidden, 1)
        self.log_var = nn.Linear(hidden, 1)
        nn.init.zeros_(self.log_var.weight)
        nn.init.zeros_(self.log_var.bias)

    def forward(self, x):
        h = self.body(x)
        return self.mean(h).squeeze(1), self.log_var(h).squeeze(1).clamp(-6, 4)


def objective(mean, log_var, target):
    return 0.5 * (log_var + (target - mean) ** 2 / log_var.exp()).mean()


class Average:
    def __init__(self):
        self.total, self.count = 0.0, 0

    def add(self, value, n):
        self.total += value * n
        self.count += n

    @property
    def value(self):
        return self.total / self.count


@torch.no_grad()
def evaluate(model, loader, scaler):
    model.eval()
    score, means, targets = Average(), [], []
    for x, y in loader:
        mean, log_var = model(x)
        score.add(objective(mean, log_var, y).item(), len(y))
        means.append(scaler.inverse(mean))
        targets.append(scaler.inverse(y))
    means, targets = torch.cat(means), torch.cat(targets)
    rmse = ((means - targets) ** 2).mean().sqrt().item()
    r2 = 1 - ((means - targets) ** 2).sum() / ((targets - targets.mean()) ** 2).sum()
    return score.value, rmse, r2.item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()
    torch.manual_seed(0)

    features, price = houses(1600, seed=0)
    order = torch.randperm(len(price))
    train_rows, val_rows = order[:1280], order[1280:]
    x_scaler = Standardizer().fit(features[train_rows])
    y_scaler = Standardizer().fit(price[train_rows])
    x, y = x_scaler.transform(features), y_scaler.transform(price)
    train_loader = DataLoader(TensorDataset(x[train_rows], y[train_rows]), args.batch_size, shuffle=True)
    val_loader = DataLoader(TensorDataset(x[val_rows], y[val_rows]), 160)

    model = MeanVariance(x.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    best, best_state = float("inf"), None
    for epoch in range(args.epochs):
        model.train()
        meter = Average()
        for xb, yb in train_loader:
            value = objective(*model(xb), yb)
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            meter.add(value.item(), len(yb))
        scheduler.step()
        score, rmse, r2 = evaluate(model, val_loader, y_scaler)
        print(f"{epoch:2d} train {meter.value:.3f} val {score:.3f} rmse {rmse:.1f} R2 {r2:.3f}")
        if score < best:
            best, best_state = score, copy.deepcopy(model.state_dict())
    model.load_state_dict(best_state)
    print("kept:", evaluate(model, val_loader, y_scaler))


if __name__ == "__main__":
    main()
