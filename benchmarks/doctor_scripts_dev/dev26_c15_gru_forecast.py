"""Forecast of an hourly load with a GRU: windows of two days in, the next hour out."""

import math

import numpy as np
import torch
import torch.nn as nn


def make_series(hours=3600, seed=0):
    """A daily and a weekly cycle and slowly wandering noise, in megawatts."""
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    daily = 12 * np.sin(2 * math.pi * t / 24) + 5 * np.sin(4 * math.pi * t / 24 + 0.7)
    weekly = 6 * np.sin(2 * math.pi * t / 168)
    noise = np.zeros(hours)
    for i in range(1, hours):
        noise[i] = 0.7 * noise[i - 1] + rng.normal(0, 0.8)
    return (60 + daily + weekly + noise).astype(np.float32)


def windows(values, length):
    """All windows of `length` values, and the value that follows each."""
    view = np.lib.stride_tricks.sliding_window_view(values, length + 1)
    return torch.tensor(view[:, :length]).unsqueeze(-1), torch.tensor(view[:, length])


class Forecaster(nn.Module):
    def __init__(self, hidden=40):
        super().__init__()
        self.gru = nn.GRU(input_size=1, hidden_size=hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        states, _ = self.gru(x)
        # the change from the last hour is what has to be predicted
        return x[:, -1, 0] + self.head(states[:, -1]).squeeze(-1)


def make_train_step(model, loss_fn, optimizer, scheduler):
    def train_step(x, y):
        model.train()
        prediction = model(x)
        loss = loss_fn(prediction, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
        return loss.item()

    return train_step


def make_valid_step(model):
    def valid_step(x):
        model.eval()
        with torch.no_grad():
            return model(x)

    return valid_step


def main():
    torch.manual_seed(0)
    length, batch_size, epochs = 48, 64, 18
    series = make_series()
    train_part, valid_part, test_part = series[:2600], series[2600:3100], series[3100:]
    mean, std = train_part.mean(), train_part.std()

    def scale(values):
        return (values - mean) / std

    x_train, y_train = windows(scale(train_part), length)
    x_valid, y_valid = windows(scale(valid_part), length)
    x_test, y_test = windows(scale(test_part), length)
    print(f"windows: {len(x_train)} train, {len(x_valid)} validation, {len(x_test)} test")

    model = Forecaster()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    steps = epochs * math.ceil(len(x_train) / batch_size)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=1e-4)
    train_step = make_train_step(model, nn.MSELoss(), optimizer, scheduler)
    valid_step = make_valid_step(model)

    def mae(x, y):
        return float((valid_step(x) - y).abs().mean() * std)

    naive = float((x_valid[:, -1, 0] - y_valid).abs().mean() * std)
    daily = float((x_valid[:, -24, 0] - y_valid).abs().mean() * std)
    print(f"last hour as forecast: {naive:.3f} MW, same hour of the day before: {daily:.3f} MW")

    best, best_weights = float("inf"), None
    for epoch in range(epochs):
        losses = [train_step(x_train[i], y_train[i]) for i in torch.randperm(len(x_train)).split(batch_size)]
        valid_mae = mae(x_valid, y_valid)
        if valid_mae < best:
            best, best_weights = valid_mae, {k: v.clone() for k, v in model.state_dict().items()}
        print(f"epoch {epoch + 1:2d}  train MSE {np.mean(losses):.5f}  validation MAE {valid_mae:.3f} MW")

    model.load_state_dict(best_weights)
    print(f"test MAE {mae(x_test, y_test):.3f} MW")


if __name__ == "__main__":
    main()
