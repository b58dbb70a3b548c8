"""LSTM forecast of a load curve: the next 4 hours from the last 30. (My full code, as asked.)"""

import math

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

seq_len = 30
horizon = 4
hidden_size = 32
batch_size = 64
learning_rate = 5e-3


def load_series(n=1500, seed=3):
    rng = np.random.RandomState(seed)
    t = np.arange(n)
    daily = np.sin(2 * math.pi * t / 24)
    other = 0.6 * np.sin(2 * math.pi * t / 7.3 + 1.0)
    load = 300 + 80 * (daily + other) + 12 * rng.randn(n)
    return load.astype(np.float32)


def create_sequences(data):
    xs, ys = [], []
    for i in range(len(data) - seq_len - horizon + 1):
        xs.append(data[i : i + seq_len])
        ys.append(data[i + seq_len : i + seq_len + horizon])
    x = torch.from_numpy(np.stack(xs)).unsqueeze(-1)  # (samples, seq_len, 1)
    y = torch.from_numpy(np.stack(ys))  # (samples, horizon)
    return x, y


class LSTMForecaster(nn.Module):
    def __init__(self, input_size=1, hidden_size=hidden_size, num_layers=1, output_size=horizon):
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.fc1 = nn.Linear(hidden_size, hidden_size)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(hidden_size, output_size)

    def forward(self, x):
        out, _ = self.lstm(x)
        out = out[:, -1, :]  # last time step
        out = self.relu(self.fc1(out))
        out = self.fc2(out)
        return out


def train_step(model, batch, optimizer, criterion):
    model.train()
    inputs, targets = batch
    optimizer.zero_grad()
    outputs = model(inputs)
    loss = criterion(outputs, targets)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(0)
    series = load_series()

    # first 80 % for training, the rest for validation
    split = int(0.8 * len(series))
    mean, std = series[:split].mean(), series[:split].std()
    series = (series - mean) / std
    x_train, y_train = create_sequences(series[:split])
    x_val, y_val = create_sequences(series[split:])

    train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=batch_size, shuffle=True)
    val_loader = DataLoader(TensorDataset(x_val, y_val), batch_size=batch_size, shuffle=False)

    model = LSTMForecaster()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    criterion = nn.MSELoss()
    return {
        "model": model,
        "train": train_loader,
        "val": val_loader,
        "loss": criterion,
        "optimizer": optimizer,
        "step": train_step,
        "task": "regress",
    }
