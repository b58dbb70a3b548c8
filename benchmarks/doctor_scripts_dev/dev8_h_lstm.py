"""Short-term load forecasting with an LSTM: hourly series, standardised, MAE reported in MW."""
import argparse
import copy
import logging
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

logging.basicConfig(level=logging.INFO, format="[%(asctime)s] %(message)s", datefmt="%H:%M:%S")
log = logging.getLogger("forecast")


def make_series(hours, seed):
    """Load in MW with daily and weekly shape, temperature dependence, growth and AR(1) noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    season = 12 - 9 * np.cos(2 * np.pi * t / (24 * 60))
    temp = season + 5 * np.sin(2 * np.pi * (t - 9) / 24)
    weather = np.zeros(hours)
    noise = np.zeros(hours)
    for i in range(1, hours):
        weather[i] = 0.97 * weather[i - 1] + rng.normal(0, 0.6)
        noise[i] = 0.8 * noise[i - 1] + rng.normal(0, 40)
    temp = temp + weather
    weekend = ((t // 24) % 7 >= 5).astype(float)
    daily = 900 * np.sin(2 * np.pi * (t - 8) / 24) + 350 * np.sin(4 * np.pi * (t - 5) / 24)
    load = 5200 + 0.15 * t + daily * (1 - 0.35 * weekend) - 700 * weekend + 3.5 * (temp - 16) ** 2 + noise
    hour = 2 * np.pi * (t % 24) / 24
    features = np.stack([load, temp, np.sin(hour), np.cos(hour), weekend], axis=1)
    return features.astype(np.float32), load.astype(np.float32)


def create_windows(features, target, lookback, horizon):
    xs, ys = [], []
    for end in range(lookback, len(target) - horizon + 1):
        xs.append(features[end - lookback:end])
        ys.append(target[end + horizon - 1])
    return np.stack(xs), np.asarray(ys, dtype=np.float32).reshape(-1, 1)


class LoadLSTM(nn.Module):
    def __init__(self, n_features, hidden_size=48, num_layers=2, dropout=0.1):
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden_size, num_layers, batch_first=True, dropout=dropout)
        self.head = nn.Sequential(nn.Linear(hidden_size, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, -1])


class EarlyStopping:
    def __init__(self, patience, path):
        self.patience, self.path = patience, path
        self.best, self.counter = None, 0

    def __call__(self, score, model):
        if self.best is None or score < self.best:
            self.best, self.counter = score, 0
            torch.save(copy.deepcopy(model.state_dict()), self.path)
        else:
            self.counter += 1
        return self.counter >= self.patience


def train_epoch(model, loader, criterion, optimizer, clip):
    model.train()
    running, seen = 0.0, 0
    for xb, yb in loader:
        optimizer.zero_grad()
        pred = model(xb)
        loss = criterion(pred, yb)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        running += loss.item() * len(xb)
        seen += len(xb)
    return running / seen


@torch.no_grad()
def evaluate(model, loader, scaler_y):
    model.eval()
    preds, trues = [], []
    for xb, yb in loader:
        preds.append(model(xb).numpy())
        trues.append(yb.numpy())
    preds = scaler_y.inverse_transform(np.concatenate(preds))
    trues = scaler_y.inverse_transform(np.concatenate(trues))
    mae = np.abs(preds - trues).mean()
    r2 = 1 - ((preds - trues) ** 2).sum() / ((trues - trues.mean()) ** 2).sum()
    return mae, r2


def parse_args():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--lookback", type=int, default=24)
    p.add_argument("--horizon", type=int, default=6)
    p.add_argument("--batch-size", type=int, default=32)
    p.add_argument("--epochs", type=int, default=9)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--clip", type=float, default=1.0)
    p.add_argument("--patience", type=int, default=6)
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args()


def main():
    args = parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    checkpoint = os.path.join(tempfile.mkdtemp(prefix="load_lstm_"), "checkpoint.pt")

    features, load = make_series(hours=24 * 7 * 20, seed=11)
    n_train, n_val = int(0.7 * len(load)), int(0.15 * len(load))
    bounds = {"train": (0, n_train), "val": (n_train, n_train + n_val), "test": (n_train + n_val, len(load))}

    scaler_x, scaler_y = StandardScaler(), StandardScaler()
    scaler_x.fit(features[:n_train])
    scaler_y.fit(load[:n_train].reshape(-1, 1))

    loaders = {}
    for name, (lo, hi) in bounds.items():
        x_part = scaler_x.transform(features[lo:hi])
        y_part = scaler_y.transform(load[lo:hi].reshape(-1, 1)).ravel()
        xs, ys = create_windows(x_part, y_part, args.lookback, args.horizon)
        dataset = TensorDataset(torch.from_numpy(xs), torch.from_numpy(ys))
        loaders[name] = DataLoader(dataset, batch_size=args.batch_size, shuffle=(name == "train"))

    model = LoadLSTM(features.shape[1])
    log.info("parameters: %d", sum(p.numel() for p in model.parameters()))
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=1e-5)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.3, patience=2)
    stopper = EarlyStopping(args.patience, checkpoint)

    for epoch in range(args.epochs):
        train_loss = train_epoch(model, loaders["train"], criterion, optimizer, args.clip)
        val_mae, val_r2 = evaluate(model, loaders["val"], scaler_y)
        scheduler.step(val_mae)
        log.info("epoch %02d train loss %.4f val MAE %.1f MW R2 %.3f lr %.1e", epoch, train_loss, val_mae, val_r2,
                 optimizer.param_groups[0]["lr"])
        if stopper(val_mae, model):
            log.info("early stopping")
            break

    model.load_state_dict(torch.load(checkpoint))
    mae, r2 = evaluate(model, loaders["test"], scaler_y)
    print(f"test MAE {mae:.1f} MW R2 {r2:.4f}")


if __name__ == "__main__":
    main()
