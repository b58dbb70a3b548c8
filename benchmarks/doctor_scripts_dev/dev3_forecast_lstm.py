"""Multi-step load forecasting with an LSTM encoder (hourly series with daily and weekly cycles)."""
import argparse
import os
import tempfile

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


def generate_load(hours=24 * 7 * 24, seed=5):
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    weekday = (t // 24) % 7
    temperature = 10 + 8 * np.sin(2 * np.pi * t / (24 * 28)) + 3 * np.sin(2 * np.pi * (t - 8) / 24) + np.cumsum(rng.normal(0, 0.06, hours))
    load = 420 + 90 * np.sin(2 * np.pi * (t - 7) / 24) + 35 * np.sin(4 * np.pi * t / 24)
    load = load - 70 * (weekday >= 5) - 6 * (temperature - 10) + rng.normal(0, 8, hours)
    return t, temperature.astype(np.float32), load.astype(np.float32)


class StandardScaler:
    def fit(self, x):
        self.mean, self.std = x.mean(0), x.std(0) + 1e-8
        return self

    def transform(self, x):
        return (x - self.mean) / self.std

    def inverse_transform(self, x):
        return x * self.std + self.mean


class WindowDataset(Dataset):
    def __init__(self, features, target, lookback, horizon):
        self.features, self.target = torch.from_numpy(features), torch.from_numpy(target)
        self.lookback, self.horizon = lookback, horizon

    def __len__(self):
        return len(self.target) - self.lookback - self.horizon + 1

    def __getitem__(self, i):
        end = i + self.lookback
        return self.features[i:end], self.target[end:end + self.horizon]


class LSTMForecaster(nn.Module):
    def __init__(self, n_features, hidden, horizon, dropout=0.1):
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, horizon))

    def forward(self, x):
        out, _ = self.lstm(x)
        last = out[:, -1]
        return self.head(self.dropout(last))


class EarlyStopping:
    def __init__(self, patience, path):
        self.patience, self.path, self.best, self.bad = patience, path, float("inf"), 0

    def __call__(self, score, model):
        if score < self.best:
            self.best, self.bad = score, 0
            torch.save(model.state_dict(), self.path)
        else:
            self.bad += 1
        return self.bad >= self.patience


def build_datasets(args):
    t, temperature, load = generate_load()
    hour, week = 2 * np.pi * (t % 24) / 24, 2 * np.pi * (t % 168) / 168
    calendar = np.stack([np.sin(hour), np.cos(hour), np.sin(week), np.cos(week)], 1).astype(np.float32)
    n_train, n_val = int(0.7 * len(t)), int(0.15 * len(t))
    x_scaler = StandardScaler().fit(temperature[:n_train, None])
    y_scaler = StandardScaler().fit(load[:n_train])
    scaled = y_scaler.transform(load).astype(np.float32)
    features = np.concatenate([scaled[:, None], x_scaler.transform(temperature[:, None]), calendar], 1).astype(np.float32)
    cuts = [(0, n_train), (n_train - args.lookback, n_train + n_val), (n_train + n_val - args.lookback, len(t))]
    sets = [WindowDataset(features[a:b], scaled[a:b], args.lookback, args.horizon) for a, b in cuts]
    return sets, y_scaler


@torch.no_grad()
def evaluate(model, loader, y_scaler, device):
    model.eval()
    abs_err, count = 0.0, 0
    for x, y in loader:
        pred = model(x.to(device)).cpu()
        pred, true = y_scaler.inverse_transform(pred), y_scaler.inverse_transform(y)
        abs_err += (pred - true).abs().sum().item()
        count += true.numel()
    return abs_err / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lookback", type=int, default=48)
    parser.add_argument("--horizon", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=48)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--patience", type=int, default=4)
    args = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    (train_set, val_set, test_set), y_scaler = build_datasets(args)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=256)
    test_loader = DataLoader(test_set, batch_size=256)
    model = LSTMForecaster(train_set.features.shape[1], args.hidden, args.horizon).to(device)
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)
    stopper = EarlyStopping(args.patience, os.path.join(tempfile.gettempdir(), "lstm_best.pt"))
    for epoch in range(1, args.epochs + 1):
        model.train()
        running = 0.0
        for x, y in train_loader:
            x, y = x.to(device), y.to(device)
            optimizer.zero_grad()
            pred = model(x)
            loss = criterion(pred, y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            running += loss.item()
        scheduler.step()
        val_mae = evaluate(model, val_loader, y_scaler, device)
        print(f"epoch {epoch:02d} train mse {running / len(train_loader):.4f} val MAE {val_mae:.2f} MW")
        if stopper(val_mae, model):
            print("early stop")
            break
    model.load_state_dict(torch.load(stopper.path))
    print(f"test MAE {evaluate(model, test_loader, y_scaler, device):.2f} MW")


if __name__ == "__main__":
    main()
