# Hi all, this is my LSTM for the hourly load of our grid (in MW). It gets the last
# 30 hours and should predict the next hour. Minimal example with made-up data:
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

SEQ_LEN = 30
HIDDEN_SIZE = 32
BATCH_SIZE = 64
LEARNING_RATE = 0.005


def load_series(hours=1900):
    rng = np.random.default_rng(99)
    t = np.arange(hours)
    noise = np.zeros(hours)
    for i in range(1, hours):
        noise[i] = 0.9 * noise[i - 1] + rng.normal(0, 90)
    daily = 1100 * np.sin(2 * np.pi * t / 24) + 350 * np.sin(4 * np.pi * t / 24 + 1)
    weekend = -500 * ((t // 24) % 7 >= 5)
    return 5200 + daily + weekend + noise


def make_windows(inputs, targets, seq_len):
    """x: (n, seq_len, 1), y: (n, 1), the value that follows the window"""
    xs, ys = [], []
    for i in range(len(inputs) - seq_len):
        xs.append(inputs[i : i + seq_len])
        ys.append(targets[i + seq_len])
    x = torch.tensor(np.array(xs), dtype=torch.float32).unsqueeze(-1)
    y = torch.tensor(np.array(ys), dtype=torch.float32).unsqueeze(-1)
    return x, y


class LoadLSTM(nn.Module):
    def __init__(self, input_size=1, hidden_size=HIDDEN_SIZE):
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.fc1 = nn.Linear(hidden_size, 32)
        self.fc2 = nn.Linear(32, 1)

    def forward(self, x):
        out, (h_n, c_n) = self.lstm(x)
        last = out[:, -1, :]  # output of the last time step
        hidden = torch.relu(self.fc1(last))
        return self.fc2(hidden)


def train_one_batch(model, batch, optimizer, criterion):
    x, y = batch
    model.train()
    optimizer.zero_grad()
    prediction = model(x)
    loss = criterion(prediction, y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss


def setup():
    torch.manual_seed(1)
    series = load_series()

    # scale with the statistics of the training hours only
    split_hour = int(0.8 * len(series))
    mean, std = series[:split_hour].mean(), series[:split_hour].std()
    scaled = (series - mean) / std

    x, y = make_windows(scaled, scaled, SEQ_LEN)

    # the past is for training, the future for validation; SEQ_LEN windows between them
    # are left out so that no hour is in both
    n_train = split_hour - SEQ_LEN
    x_train, y_train = x[:n_train], y[:n_train]
    x_val, y_val = x[n_train + SEQ_LEN :], y[n_train + SEQ_LEN :]

    train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=BATCH_SIZE, shuffle=True)
    val_loader = DataLoader(TensorDataset(x_val, y_val), batch_size=BATCH_SIZE, shuffle=False)

    model = LoadLSTM()
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    return dict(
        model=model,
        train=train_loader,
        val=val_loader,
        loss=criterion,
        optimizer=optimizer,
        step=train_one_batch,
        task="regress",
    )
