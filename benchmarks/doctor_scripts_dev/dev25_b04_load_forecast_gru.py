"""Forecast of an electric load: twelve hours ahead from the last two days, with a GRU."""

import copy

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

HISTORY, HORIZON = 48, 12
BATCH_SIZE, EPOCHS, LEARNING_RATE = 64, 30, 3e-3


def make_series(hours=4300, seed=3):
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    load = 50 + 10 * np.sin(2 * np.pi * t / 24) + 4 * np.sin(4 * np.pi * t / 24 + 0.7)
    load += 6 * np.sin(2 * np.pi * t / 168)
    noise = np.zeros(hours)
    for i in range(1, hours):
        noise[i] = 0.8 * noise[i - 1] + rng.normal()
    return load + noise


def make_windows(series):
    """All windows by their first hour: inputs (n, HISTORY, 1), targets (n, HORIZON)."""
    count = len(series) - HISTORY - HORIZON + 1
    inputs = np.stack([series[i : i + HISTORY] for i in range(count)])
    targets = np.stack([series[i + HISTORY : i + HISTORY + HORIZON] for i in range(count)])
    return (
        torch.tensor(inputs, dtype=torch.float32).unsqueeze(-1),
        torch.tensor(targets, dtype=torch.float32),
    )


class Forecaster(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, HORIZON)

    def forward(self, x):
        out, _ = self.gru(x)
        return self.head(out[:, -1])


def train(model, loader, criterion, optimizer):
    model.train()
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item() * len(x)
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader, scale):
    """Mean absolute error in megawatts."""
    model.eval()
    total, count = 0.0, 0
    for x, y in loader:
        total += (model(x) - y).abs().sum().item()
        count += y.numel()
    return scale * total / count


def main():
    torch.manual_seed(0)
    series = make_series()
    train_end, val_end = int(0.7 * len(series)), int(0.85 * len(series))
    mean, std = series[:train_end].mean(), series[:train_end].std()
    inputs, targets = make_windows((series - mean) / std)

    # no window reaches over the border of two parts
    order = np.arange(len(inputs))
    reach = HISTORY + HORIZON
    train_rows = order[: train_end - reach]
    val_rows = order[train_end : val_end - reach]
    test_rows = order[val_end:]

    def loader(rows, shuffle=False):
        return DataLoader(TensorDataset(inputs[rows], targets[rows]), batch_size=BATCH_SIZE, shuffle=shuffle)

    train_loader, val_loader, test_loader = loader(train_rows, shuffle=True), loader(val_rows), loader(test_rows)

    naive = std * (inputs[val_rows][:, HISTORY - 24 : HISTORY - 24 + HORIZON, 0] - targets[val_rows]).abs().mean()
    print(f"as yesterday: validation MAE {naive:.3f} MW")

    model = Forecaster()
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="min", factor=0.5, patience=3)
    best, best_state = float("inf"), None
    for epoch in range(1, EPOCHS + 1):
        train_loss = train(model, train_loader, criterion, optimizer)
        mae = evaluate(model, val_loader, std)
        scheduler.step(mae)
        if mae < best:
            best, best_state = mae, copy.deepcopy(model.state_dict())
        print(f"epoch {epoch:2d} train mse {train_loss:.4f} validation MAE {mae:.3f} MW")

    model.load_state_dict(best_state)
    print(f"kept: validation MAE {best:.3f} MW, test MAE {evaluate(model, test_loader, std):.3f} MW")


if __name__ == "__main__":
    main()
