"""Bike rentals per hour from weather and calendar (tabular regression with an MLP).

The table is simulated: one row per hour over two years, with the usual columns."""
import argparse
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

COLUMNS = ['hour', 'weekday', 'month', 'temp', 'humidity', 'pressure', 'wind', 'rain', 'holiday']


def simulate(n_rows, seed):
    rng = np.random.default_rng(seed)
    hour, weekday, month = rng.integers(0, 24, n_rows), rng.integers(0, 7, n_rows), rng.integers(0, 12, n_rows)
    temp = 12 - 10 * np.cos(2 * np.pi * (month - .5) / 12) + 4 * np.sin(2 * np.pi * (hour - 9) / 24) + rng.normal(0, 3, n_rows)
    humidity = np.clip(65 - temp + rng.normal(0, 12, n_rows), 15, 100)
    pressure = rng.normal(1013, 8, n_rows)
    wind, rain = rng.gamma(2, 2, n_rows), (rng.random(n_rows) < .15) * rng.gamma(1, 2, n_rows)
    holiday = (rng.random(n_rows) < .05).astype(float)
    work = (weekday < 5) & (holiday == 0)
    commute = np.exp(-.5 * (hour - 8) ** 2) + 1.2 * np.exp(-.5 * ((hour - 17.5) / 1.2) ** 2)
    leisure = np.exp(-.5 * ((hour - 14) / 3.5) ** 2)
    level = np.where(work, 350 * commute + 120 * leisure, 380 * leisure) + 15
    count = level * np.clip(.3 + temp / 22, .1, 1.5) * np.exp(-.25 * rain) * (1 - .015 * np.minimum(wind, 20))
    count = np.maximum(0, count * (1.1 - .002 * humidity) * rng.normal(1, .1, n_rows) + rng.normal(0, 8, n_rows))
    table = np.stack([hour, weekday, month, temp, humidity, pressure, wind, rain, holiday], axis=1)
    return table, count


def featurize(table):
    """Cyclic encodings for hour and month, one-hot weekday, the rest as it is."""
    hour, weekday, month = table[:, 0], table[:, 1].astype(int), table[:, 2]
    cyc = [f(2 * np.pi * k * hour / 24) for k in (1, 2, 3) for f in (np.sin, np.cos)]
    cyc += [f(2 * np.pi * month / 12) for f in (np.sin, np.cos)]
    return np.concatenate([np.stack(cyc, axis=1), np.eye(7)[weekday], table[:, 3:]], axis=1).astype('float32')


class MLP(nn.Module):
    def __init__(self, n_in, hidden=96):
        super().__init__()
        self.fc1 = nn.Linear(n_in, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        x = torch.relu(self.fc3(x))
        return self.out(x).squeeze(1)


def evaluate(model, loader, y_mean, y_std):
    model.eval()
    preds, targets = [], []
    with torch.no_grad():
        for x, y in loader:
            preds.append(model(x) * y_std + y_mean)
            targets.append(y * y_std + y_mean)
    preds, targets = torch.cat(preds), torch.cat(targets)
    rmse = (preds - targets).pow(2).mean().sqrt().item()
    mae = (preds - targets).abs().mean().item()
    r2 = 1 - (preds - targets).pow(2).sum().item() / (targets - targets.mean()).pow(2).sum().item()
    return rmse, mae, r2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--epochs', type=int, default=15)
    parser.add_argument('--batch-size', type=int, default=64)
    parser.add_argument('--lr', type=float, default=2e-3)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    table, count = simulate(5000, seed=args.seed)
    features = featurize(table)
    x_train, x_val, x_test = np.split(features, [3600, 4300])
    y_train, y_val, y_test = np.split(count.astype('float32'), [3600, 4300])

    # standardize inputs and target with the statistics of the training rows
    x_mean, x_std = x_train.mean(axis=0), x_train.std(axis=0) + 1e-6
    y_mean, y_std = float(y_train.mean()), float(y_train.std())

    def make_set(x, y):
        return TensorDataset(torch.from_numpy((x - x_mean) / x_std), torch.from_numpy((y - y_mean) / y_std))

    train_loader = DataLoader(make_set(x_train, y_train), batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(make_set(x_val, y_val), batch_size=256)
    test_loader = DataLoader(make_set(x_test, y_test), batch_size=256)

    model = MLP(features.shape[1])
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.4)
    best_rmse = float('inf')
    path = os.path.join(tempfile.gettempdir(), 'dev7_bikes_best.pt')

    for epoch in range(args.epochs):
        model.train()
        running = 0.0
        for x, y in train_loader:
            optimizer.zero_grad()
            pred = model(x)
            loss = criterion(pred, y)
            loss.backward()
            optimizer.step()
            running += loss.item() * len(x)
        scheduler.step()
        rmse, mae, r2 = evaluate(model, val_loader, y_mean, y_std)
        print(f'epoch {epoch + 1:2d}  train loss {running / len(x_train):.4f}  val RMSE {rmse:.2f}  MAE {mae:.2f}  R2 {r2:.4f}')
        if rmse < best_rmse:
            best_rmse = rmse
            torch.save(model.state_dict(), path)

    model.load_state_dict(torch.load(path))
    rmse, mae, r2 = evaluate(model, test_loader, y_mean, y_std)
    print(f'test (best epoch): RMSE {rmse:.2f} rentals, MAE {mae:.2f}, R2 {r2:.4f}')


if __name__ == '__main__':
    main()
