"""Day-ahead load forecasting: windows, scaler, quantile MLP with calendar features."""
import argparse
import copy
import time

import numpy as np
import torch
import torch.nn as nn
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset

TARGET = 2
COLUMNS = ["temperature", "wind", "load"]


def generate_series(n_hours, seed=0):
    """Hourly temperature (C), wind (m/s) and load (MW) of a made-up region."""
    rng = np.random.default_rng(seed)
    t = np.arange(n_hours)
    hour, day = t % 24, t // 24
    weekend = (day % 7) >= 5

    def ar1(rho, sigma):
        e = rng.normal(0, sigma, n_hours)
        out = np.zeros(n_hours)
        for i in range(1, n_hours):
            out[i] = rho * out[i - 1] + e[i]
        return out

    temp = 11 + 4 * np.sin(2 * np.pi * (hour - 9) / 24) + ar1(0.96, 0.6)
    wind = np.abs(6 + ar1(0.95, 0.8))
    profile = 900 * np.exp(-((hour - 8) / 2.5) ** 2) + 1200 * np.exp(-((hour - 19) / 3.0) ** 2)
    load = 4000 + profile * np.where(weekend, 0.45, 1.0) - 350 * weekend
    load = load + 55 * np.maximum(0, 16 - temp) + 12 * wind + ar1(0.9, 45)
    return np.stack([temp, wind, load], axis=1), time_features(t)


def time_features(t):
    hour, weekday = t % 24, (t // 24) % 7
    feats = [np.sin(2 * np.pi * hour / 24), np.cos(2 * np.pi * hour / 24),
             np.sin(2 * np.pi * weekday / 7), np.cos(2 * np.pi * weekday / 7), (weekday >= 5) - 0.5]
    return np.stack(feats, axis=1).astype(np.float32)


class LoadDataset(Dataset):
    """Past `seq_len` hours of all columns -> next `pred_len` hours of the load."""

    def __init__(self, raw, marks, flag, seq_len, pred_len):
        assert flag in ("train", "val", "test")
        self.seq_len, self.pred_len = seq_len, pred_len
        n = len(raw)
        n_train, n_test = int(n * 0.7), int(n * 0.2)
        n_val = n - n_train - n_test
        border1s = [0, n_train - seq_len, n_train + n_val - seq_len]
        border2s = [n_train, n_train + n_val, n]
        which = ("train", "val", "test").index(flag)
        b1, b2 = border1s[which], border2s[which]

        self.scaler = StandardScaler()
        self.scaler.fit(raw[border1s[0]:border2s[0]])
        self.data = self.scaler.transform(raw)[b1:b2].astype(np.float32)
        self.marks = marks[b1:b2]

    def __len__(self):
        return len(self.data) - self.seq_len - self.pred_len + 1

    def __getitem__(self, idx):
        s_end = idx + self.seq_len
        r_end = s_end + self.pred_len
        x = self.data[idx:s_end]
        y = self.data[s_end:r_end, TARGET]
        return x, self.marks[idx:s_end], y, self.marks[s_end:r_end]

    def inverse_target(self, y):
        return y * self.scaler.scale_[TARGET] + self.scaler.mean_[TARGET]


class ResBlock(nn.Module):
    def __init__(self, dim_in, dim_hidden, dim_out, dropout=0.3):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(dim_in, dim_hidden), nn.ReLU(), nn.Linear(dim_hidden, dim_out), nn.Dropout(dropout))
        self.skip = nn.Linear(dim_in, dim_out)
        self.norm = nn.LayerNorm(dim_out)

    def forward(self, x):
        return self.norm(self.mlp(x) + self.skip(x))


class Forecaster(nn.Module):
    def __init__(self, n_cols, n_marks, seq_len, pred_len, n_quantiles, hidden=48, step_dim=8):
        super().__init__()
        self.pred_len, self.step_dim = pred_len, step_dim
        self.input_drop = nn.Dropout(0.3)
        self.encoder = nn.Sequential(ResBlock(seq_len * (n_cols + n_marks), hidden, hidden), ResBlock(hidden, hidden, hidden))
        self.decoder = nn.Linear(hidden, pred_len * step_dim)
        self.head = nn.Sequential(nn.Linear(step_dim + n_marks, 64), nn.ReLU(), nn.Linear(64, n_quantiles))

    def forward(self, x, x_mark, y_mark):
        last = x[:, -1:, TARGET].unsqueeze(-1)                        # B x 1 x 1
        h = self.encoder(torch.cat([self.input_drop(x), x_mark], dim=-1).flatten(1))
        steps = self.decoder(h).view(-1, self.pred_len, self.step_dim)
        return self.head(torch.cat([steps, y_mark], dim=-1)) + last  # B x T x Q


class QuantileLoss(nn.Module):
    def __init__(self, quantiles):
        super().__init__()
        self.register_buffer("q", torch.tensor(quantiles))

    def forward(self, pred, target):
        err = target.unsqueeze(-1) - pred
        return torch.maximum(self.q * err, (self.q - 1) * err).sum(-1).mean()


class EarlyStopping:
    def __init__(self, patience=4, delta=0.0):
        self.patience, self.delta = patience, delta
        self.best, self.counter, self.state, self.stop = None, 0, None, False

    def __call__(self, val_loss, model):
        if self.best is None or val_loss < self.best - self.delta:
            self.best, self.counter = val_loss, 0
            self.state = copy.deepcopy(model.state_dict())
        else:
            self.counter += 1
            self.stop = self.counter >= self.patience


@torch.no_grad()
def predict(model, loader):
    model.eval()
    preds, trues = [], []
    for x, x_mark, y, y_mark in loader:
        preds.append(model(x, x_mark, y_mark))
        trues.append(y)
    return torch.cat(preds), torch.cat(trues)


def seasonal_naive(dataset, loader):
    """The load of the same hour one week earlier, in MW."""
    past = torch.cat([x[:, -168:-168 + dataset.pred_len, TARGET] for x, _, _, _ in loader])
    return dataset.inverse_target(past.numpy())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seq-len", type=int, default=168)
    parser.add_argument("--pred-len", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--hours", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=2021)
    args = parser.parse_args()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    quantiles = [0.1, 0.5, 0.9]
    raw, marks = generate_series(args.hours, seed=args.seed)
    sets = {f: LoadDataset(raw, marks, f, args.seq_len, args.pred_len) for f in ("train", "val", "test")}
    loaders = {f: DataLoader(s, args.batch_size, shuffle=(f == "train"), drop_last=(f == "train")) for f, s in sets.items()}
    print({f: len(s) for f, s in sets.items()})

    model = Forecaster(len(COLUMNS), marks.shape[1], args.seq_len, args.pred_len, len(quantiles))
    criterion = QuantileLoss(quantiles)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda=lambda epoch: 0.85 ** epoch)
    stopper = EarlyStopping(patience=4)

    for epoch in range(args.epochs):
        model.train()
        t0, losses = time.time(), []
        for x, x_mark, y, y_mark in loaders["train"]:
            optimizer.zero_grad()
            loss = criterion(model(x, x_mark, y_mark), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        val_loss = criterion(*predict(model, loaders["val"])).item()
        print(f"epoch {epoch + 1} lr {scheduler.get_last_lr()[0]:.2e} train {np.mean(losses):.4f} val {val_loss:.4f} ({time.time() - t0:.1f}s)")
        scheduler.step()
        stopper(val_loss, model)
        if stopper.stop:
            print("early stopping")
            break

    model.load_state_dict(stopper.state)
    pred, true = predict(model, loaders["test"])
    pred, true = sets["test"].inverse_target(pred.numpy()), sets["test"].inverse_target(true.numpy())
    median = pred[..., quantiles.index(0.5)]
    err = np.abs(median - true)
    inside = (true >= pred[..., 0]) & (true <= pred[..., -1])
    naive = np.abs(seasonal_naive(sets["test"], loaders["test"]) - true)
    for h in (1, 6, 12, 24):
        print(f"h={h:2d} MAE {err[:, h - 1].mean():.1f} MW (naive {naive[:, h - 1].mean():.1f})")
    print(f"test MAE {err.mean():.1f} MW, MAPE {100 * (err / true).mean():.2f}%, naive MAE {naive.mean():.1f} MW, "
          f"80% interval coverage {inside.mean():.3f}")


if __name__ == "__main__":
    main()
