"""Prices of houses, five-fold cross-validation: early stopping on a part of each fold's training rows, never on its test rows."""

import copy

import numpy as np
import torch
from sklearn.model_selection import KFold, train_test_split
from torch import nn

from toydata import houses

FOLDS = 5
EPOCHS = 60
BATCH = 64
PATIENCE = 20


def build_network(inputs):
    network = nn.Sequential(
        nn.Linear(inputs, 96),
        nn.SiLU(),
        nn.Linear(96, 96),
        nn.SiLU(),
        nn.Linear(96, 1),
    )
    return network


class Standard:
    """Means and spreads of training rows."""

    def __init__(self, values):
        self.mean, self.std = values.mean(0), values.std(0)

    def apply(self, values):
        return (values - self.mean) / self.std

    def undo(self, values):
        return values * self.std + self.mean


def batches(count, size):
    return torch.randperm(count).split(size)


def train_epoch(network, x, y, optimizer, criterion):
    network.train()
    total = 0.0
    for rows in batches(len(x), BATCH):
        prediction = network(x[rows]).squeeze(1)
        loss = criterion(prediction, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    return total / len(x)


@torch.no_grad()
def predict(network, x):
    network.eval()
    return network(x).squeeze(1)


def rmse(prediction, truth):
    return (prediction - truth).pow(2).mean().sqrt().item()


def run_fold(fold, features, prices, train_rows, test_rows):
    torch.manual_seed(100 + fold)
    fit_rows, stop_rows = train_test_split(train_rows, test_size=0.15, random_state=fold)
    fit_rows, stop_rows, test_rows = (torch.as_tensor(rows) for rows in (fit_rows, stop_rows, test_rows))
    scale_x, scale_y = Standard(features[fit_rows]), Standard(prices[fit_rows])
    x, y = scale_x.apply(features[fit_rows]), scale_y.apply(prices[fit_rows])
    x_stop = scale_x.apply(features[stop_rows])

    network = build_network(features.shape[1])
    criterion = nn.MSELoss()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)

    best, best_state, since = float("inf"), None, 0
    for epoch in range(EPOCHS):
        loss = train_epoch(network, x, y, optimizer, criterion)
        scheduler.step()
        error = rmse(scale_y.undo(predict(network, x_stop)), prices[stop_rows])
        if epoch % 5 == 4 or epoch == 0:
            print(f"fold {fold} epoch {epoch + 1:2d}  loss {loss:.4f}  RMSE {error:.2f} thousand")
        if error < best:
            best, best_state, since = error, copy.deepcopy(network.state_dict()), 0
        else:
            since += 1
            if since >= PATIENCE:
                break

    network.load_state_dict(best_state)
    prediction = scale_y.undo(predict(network, scale_x.apply(features[test_rows])))
    truth = prices[test_rows]
    r2 = 1 - (prediction - truth).pow(2).sum() / (truth - truth.mean()).pow(2).sum()
    return rmse(prediction, truth), r2.item()


def main():
    torch.set_num_threads(1)
    features, prices = houses(5000)
    results = []
    for fold, (train_rows, test_rows) in enumerate(
        KFold(FOLDS, shuffle=True, random_state=0).split(features.numpy()), start=1
    ):
        results.append(run_fold(fold, features, prices, train_rows, test_rows))
        print(f"fold {fold}: test RMSE {results[-1][0]:.2f}  R2 {results[-1][1]:.4f}")
    errors, r2s = np.array(results).T
    print(f"cross-validated RMSE {errors.mean():.2f} +- {errors.std():.2f}  R2 {r2s.mean():.4f}")


if __name__ == "__main__":
    main()
