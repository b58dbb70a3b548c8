"""Day-ahead style forecast of an electric load: 48 hours in, 12 hours out, GRU, against the seasonal-naive baseline."""
import argparse
import copy

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


def synth_load(hours=2600, seed=0):
    """Hourly load of a small town in kW: daily and weekly rhythm, a slow drift, noise that remembers."""
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    daily = 900 * np.sin(2 * np.pi * (t - 7) / 24) + 350 * np.sin(4 * np.pi * t / 24)
    weekly = np.where((t // 24) % 7 >= 5, -600, 0)
    drift = 700 * np.sin(2 * np.pi * t / 900)
    ar = np.zeros(hours)
    for i in range(1, hours):
        ar[i] = 0.9 * ar[i - 1] + rng.normal(0, 60)
    return (5200 + daily + weekly + drift + ar).astype(np.float32)


class Scaler:
    def fit(self, x):
        self.mu, self.sd = float(x.mean()), float(x.std())
        return self

    def __call__(self, x):
        return (x - self.mu) / self.sd

    def back(self, z):
        return z * self.sd + self.mu


class Windows(Dataset):
    def __init__(self, series, lookback, horizon):
        self.series = torch.as_tensor(series, dtype=torch.float32)
        self.lookback, self.horizon = lookback, horizon

    def __len__(self):
        return len(self.series) - self.lookback - self.horizon + 1

    def __getitem__(self, i):
        cut = i + self.lookback
        return self.series[i:cut, None], self.series[cut:cut + self.horizon]


class GRUForecaster(nn.Module):
    def __init__(self, horizon, hidden=32):
        super().__init__()
        self.rnn = nn.GRU(1, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, horizon)

    def forward(self, x):
        states, _ = self.rnn(x)
        return self.readout(states[:, -1])


def run_epoch(model, loader, criterion, optimizer=None):
    model.train(optimizer is not None)
    total = 0.0
    with torch.set_grad_enabled(optimizer is not None):
        for x, y in loader:
            loss = criterion(model(x), y)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            total += loss.item() * len(x)
    return total / len(loader.dataset)


@torch.no_grad()
def test_mae(model, series_kw, scaler, args):
    """Mean absolute error in kW on a stretch of the raw series, and that of "as yesterday"."""
    raw = Windows(series_kw, args.lookback, args.horizon)
    x = torch.stack([raw[i][0] for i in range(len(raw))])
    y = torch.stack([raw[i][1] for i in range(len(raw))])
    model.eval()
    pred = torch.cat([scaler.back(model(part)) for part in scaler(x).split(128)])
    naive = x[:, -24:-24 + args.horizon, 0]
    return (pred - y).abs().mean().item(), (naive - y).abs().mean().item()


def get_args():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--lookback", type=int, default=48)
    ap.add_argument("--horizon", type=int, default=12)
    ap.add_argument("--batch-size", type=int, default=64)
    ap.add_argument("--epochs", type=int, default=22)
    ap.add_argument("--lr", type=float, default=8e-3)
    ap.add_argument("--weight-decay", type=float, default=1e-5)
    ap.add_argument("--patience", type=int, default=6)
    return ap.parse_args()


def main(args):
    torch.manual_seed(42)
    load = synth_load()
    n_train, n_val = 1600, 450
    train_kw, val_kw, test_kw = np.split(load, [n_train, n_train + n_val])
    scaler = Scaler().fit(train_kw)
    loaders = {
        "train": DataLoader(Windows(scaler(train_kw), args.lookback, args.horizon), args.batch_size, shuffle=True),
        "val": DataLoader(Windows(scaler(val_kw), args.lookback, args.horizon), args.batch_size),
    }
    model = GRUForecaster(args.horizon)
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.4, patience=2)

    best, best_weights, waited = float("inf"), None, 0
    for epoch in range(args.epochs):
        train_loss = run_epoch(model, loaders["train"], criterion, optimizer)
        val_loss = run_epoch(model, loaders["val"], criterion)
        plateau.step(val_loss)
        print(f"{epoch:3d}  train {train_loss:.4f}  val {val_loss:.4f}  lr {optimizer.param_groups[0]['lr']:.1e}")
        if val_loss < best:
            best, best_weights, waited = val_loss, copy.deepcopy(model.state_dict()), 0
        else:
            waited += 1
            if waited >= args.patience:
                print("early stop")
                break
    model.load_state_dict(best_weights)
    mae, naive = test_mae(model, test_kw, scaler, args)
    print(f"test MAE {mae:.0f} kW (as yesterday: {naive:.0f} kW)")


if __name__ == "__main__":
    main(get_args())
