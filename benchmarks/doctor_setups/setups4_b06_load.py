# "Predicting the electricity load one hour ahead with an LSTM - is this how it is done?"
#
# Hi everyone, I have hourly measurements of the load of our grid (in MW) and want to predict the
# next hour from the last 36 hours. Below is my complete code, with a synthetic series so that you can run it.

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

window = 36
hidden_size = 32
batch_size = 64
lr = 0.005


def get_series(n=1700):
    rng = np.random.RandomState(0)
    t = np.arange(n)
    load = 4000 + 800 * np.sin(2 * np.pi * t / 24) + 350 * np.sin(2 * np.pi * t / 12 + 1.0)
    load = load + 250 * np.sin(2 * np.pi * t / 168)
    noise = np.zeros(n)
    for i in range(1, n):
        noise[i] = 0.7 * noise[i - 1] + 60 * rng.randn()
    return torch.tensor(load + noise, dtype=torch.float32)


def make_windows(values):
    xs, ys = [], []
    for i in range(len(values) - window):
        xs.append(values[i : i + window])
        ys.append(values[i + window])
    # x: (samples, window, 1)   y: (samples, 1)
    return torch.stack(xs).unsqueeze(-1), torch.stack(ys).unsqueeze(-1)


class LoadLSTM(nn.Module):
    def __init__(self, input_size=1, hidden_size=32):
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.fc = nn.Linear(hidden_size, 1)

    def forward(self, x):
        # x: (batch, window, 1)
        out, (h_n, c_n) = self.lstm(x)
        last = out[:, -1]
        return self.fc(last)


def train_step(model, batch, optimizer, criterion):
    x, y = batch
    model.train()
    optimizer.zero_grad()
    pred = model(x)
    loss = criterion(pred, y)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(0)
    series = get_series()

    # the first 75 % for training, the rest for validation
    split = int(0.75 * len(series))
    mean, std = series[:split].mean(), series[:split].std()
    scaled = (series - mean) / std

    x_train, y_train = make_windows(scaled[:split])
    x_val, y_val = make_windows(scaled[split:])

    train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=batch_size, shuffle=True)
    val_loader = DataLoader(TensorDataset(x_val, y_val), batch_size=batch_size)

    model = LoadLSTM(hidden_size=hidden_size)
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)

    return {
        "model": model,
        "train": train_loader,
        "val": val_loader,
        "loss": criterion,
        "optimizer": optimizer,
        "step": train_step,
        "task": "regress",
    }
