"""Long-horizon forecasting of several load curves, organized as the Informer code base is: data, model, Exp."""

import argparse
import copy

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset


def load_curves(length, seed):
    """Hourly loads in megawatts at three stations: a day, a week, a slow rise, noise."""
    rng = np.random.RandomState(seed)
    t = np.arange(length)
    columns = []
    for level, swing, shift in ((800.0, 250.0, 0.0), (500.0, 120.0, 1.0), (1200.0, 300.0, 2.1)):
        day = swing * np.sin(2 * np.pi * t / 24 + shift) + 0.3 * swing * np.sin(4 * np.pi * t / 24 + 2 * shift)
        week = 0.3 * swing * np.sin(2 * np.pi * t / 168)
        columns.append(level + 0.05 * t + day + week + 0.08 * swing * rng.randn(length))
    return np.stack(columns, axis=1)


class StandardScaler:
    def fit(self, data):
        self.mean, self.std = data.mean(0), data.std(0)

    def transform(self, data):
        return (data - self.mean) / self.std


class Dataset_Load(Dataset):
    def __init__(self, flag, size, length=1600, scale=True, seed=0):
        self.seq_len, self.pred_len = size
        raw = load_curves(length, seed)
        n_train, n_test = int(length * 0.6), int(length * 0.2)
        n_val = length - n_train - n_test
        border1 = {"train": 0, "val": n_train, "test": n_train + n_val}[flag]
        border2 = {"train": n_train, "val": n_train + n_val, "test": length}[flag]
        self.scale = scale
        self.scaler = StandardScaler()
        self.scaler.fit(raw[:n_train])
        data = self.scaler.transform(raw) if self.scale else raw
        self.data_x = data[border1:border2].astype(np.float32)
        self.data_y = data[border1:border2].astype(np.float32)

    def __getitem__(self, index):
        s_begin = index
        s_end = s_begin + self.seq_len
        r_begin = s_end
        r_end = r_begin + self.pred_len
        return self.data_x[s_begin:s_end], self.data_y[r_begin:r_end]

    def __len__(self):
        return len(self.data_x) - self.seq_len - self.pred_len + 1


class Model(nn.Module):
    def __init__(self, seq_len, pred_len, d_model, dropout):
        super().__init__()
        self.linear = nn.Linear(seq_len, pred_len)
        self.mlp = nn.Sequential(nn.Linear(seq_len, d_model), nn.GELU(), nn.Dropout(dropout), nn.Linear(d_model, pred_len))

    def forward(self, x):
        last = x[:, -1:, :]
        x = (x - last).permute(0, 2, 1)
        y = self.linear(x) + self.mlp(x)
        return y.permute(0, 2, 1) + last


class EarlyStopping:
    def __init__(self, patience):
        self.patience, self.counter = patience, 0
        self.best_loss, self.best_state, self.early_stop = None, None, False

    def __call__(self, val_loss, model):
        if self.best_loss is None or val_loss < self.best_loss:
            self.best_loss, self.counter = val_loss, 0
            self.best_state = copy.deepcopy(model.state_dict())
        else:
            self.counter += 1
            self.early_stop = self.counter >= self.patience


def adjust_learning_rate(optimizer, epoch, args):
    lr = args.learning_rate if epoch < 3 else args.learning_rate * 0.8 ** (epoch - 2)
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


def metric(pred, true):
    mse, mae = np.mean((pred - true) ** 2), np.mean(np.abs(pred - true))
    return mse, mae, 1 - mse / np.var(true)


class Exp_Forecast:
    def __init__(self, args):
        self.args = args
        self.model = Model(args.seq_len, args.pred_len, d_model=64, dropout=0.05)

    def _get_data(self, flag):
        data_set = Dataset_Load(flag, (self.args.seq_len, self.args.pred_len))
        return data_set, DataLoader(data_set, batch_size=self.args.batch_size, shuffle=flag == "train")

    @torch.no_grad()
    def predict(self, loader):
        self.model.eval()
        preds, trues = [], []
        for batch_x, batch_y in loader:
            preds.append(self.model(batch_x).numpy())
            trues.append(batch_y.numpy())
        return np.concatenate(preds), np.concatenate(trues)

    def train(self):
        _, train_loader = self._get_data("train")
        _, vali_loader = self._get_data("val")
        early_stopping = EarlyStopping(patience=3)
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.args.learning_rate)
        criterion = nn.MSELoss()
        for epoch in range(self.args.train_epochs):
            lr = adjust_learning_rate(optimizer, epoch, self.args)
            self.model.train()
            train_loss = []
            for batch_x, batch_y in train_loader:
                optimizer.zero_grad()
                loss = criterion(self.model(batch_x), batch_y)
                loss.backward()
                optimizer.step()
                train_loss.append(loss.item())
            vali_loss = metric(*self.predict(vali_loader))[0]
            print(f"Epoch {epoch + 1}: lr {lr:.2e} train {np.mean(train_loss):.4f} vali {vali_loss:.4f}")
            early_stopping(vali_loss, self.model)
            if early_stopping.early_stop:
                break
        self.model.load_state_dict(early_stopping.best_state)

    def test(self):
        _, test_loader = self._get_data("test")
        preds, trues = self.predict(test_loader)
        mse, mae, r2 = metric(preds, trues)
        print(f"test mse {mse:.4f} mae {mae:.4f} r2 {r2:.3f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seq_len", type=int, default=48)
    parser.add_argument("--pred_len", type=int, default=12)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--train_epochs", type=int, default=10)
    args = parser.parse_args()
    torch.manual_seed(2021)
    exp = Exp_Forecast(args)
    exp.train()
    exp.test()


if __name__ == "__main__":
    main()
