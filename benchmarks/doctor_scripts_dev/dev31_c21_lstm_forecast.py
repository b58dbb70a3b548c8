"""Forecast of hourly load, 12 hours from the last 48, split by time, against the same hours of the day before."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

HISTORY, HORIZON = 48, 12


def make_load(hours=4200, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    daily = 12 * np.sin(2 * np.pi * t / 24) + 5 * np.sin(4 * np.pi * t / 24 + 1)
    weekday = np.where((t // 24) % 7 < 5, 8.0, -8.0)
    noise = np.zeros(hours)
    for i in range(1, hours):
        noise[i] = 0.9 * noise[i - 1] + rng.normal(0, 1.0)
    load = 100 + daily + weekday + noise
    calendar = np.stack(
        [np.sin(2 * np.pi * t / 24), np.cos(2 * np.pi * t / 24), ((t // 24) % 7 < 5).astype(float)], axis=1
    )
    return load.astype(np.float32), calendar.astype(np.float32)


class WindowDataset(Dataset):
    """Scaled history with calendar, calendar of the hours to come, and their load."""

    def __init__(self, load, calendar, mean, std):
        self.series = torch.from_numpy((load - mean) / std)
        self.calendar = torch.from_numpy(calendar)

    def __len__(self):
        return len(self.series) - HISTORY - HORIZON + 1

    def __getitem__(self, start):
        middle, end = start + HISTORY, start + HISTORY + HORIZON
        history = torch.cat([self.series[start:middle, None], self.calendar[start:middle]], dim=1)
        return history, self.calendar[middle:end].flatten(), self.series[middle:end]


class Forecaster(nn.Module):
    def __init__(self, hidden=40):
        super().__init__()
        self.lstm = nn.LSTM(input_size=4, hidden_size=hidden, num_layers=1, batch_first=True)
        self.out = nn.Sequential(nn.Linear(hidden + 3 * HORIZON, 64), nn.ReLU(), nn.Linear(64, HORIZON))

    def forward(self, history, future):
        _, (h, _) = self.lstm(history)
        # Predicted is the difference from the last value that is known.
        return history[:, -1, :1] + self.out(torch.cat([h[-1], future], dim=1))


def train_one_epoch(model, loader, criterion, optimizer):
    model.train()
    total = 0.0
    for history, future, target in loader:
        prediction = model(history, future)
        loss = criterion(prediction, target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
        optimizer.step()
        total += loss.item() * len(target)
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader, std):
    model.eval()
    errors = [(model(history, future) - target).abs() for history, future, target in loader]
    return torch.cat(errors).mean().item() * std


def main():
    torch.manual_seed(2)
    torch.set_num_threads(1)
    load, calendar = make_load()
    n_train, n_valid = 3000, 600
    mean, std = float(load[:n_train].mean()), float(load[:n_train].std())
    parts = {
        "train": slice(0, n_train),
        "valid": slice(n_train, n_train + n_valid),
        "test": slice(n_train + n_valid, len(load)),
    }
    sets = {name: WindowDataset(load[part], calendar[part], mean, std) for name, part in parts.items()}
    train_loader = DataLoader(sets["train"], batch_size=64, shuffle=True)
    valid_loader = DataLoader(sets["valid"], batch_size=128)
    test_loader = DataLoader(sets["test"], batch_size=128)

    test_load = load[parts["test"]]
    print(f"same hours of the day before: MAE {np.abs(test_load[24:] - test_load[:-24]).mean():.2f}")

    model = Forecaster()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    criterion = nn.SmoothL1Loss()
    best, patience, state = float("inf"), 0, None
    for epoch in range(1, 16):
        train_loss = train_one_epoch(model, train_loader, criterion, optimizer)
        valid_mae = evaluate(model, valid_loader, std)
        scheduler.step(valid_mae)
        print(f"epoch {epoch:2d} train loss {train_loss:.4f} valid MAE {valid_mae:.3f} lr {optimizer.param_groups[0]['lr']:.5f}")
        if valid_mae < best:
            best, patience = valid_mae, 0
            state = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            patience += 1
            if patience >= 5:
                print("early stop")
                break
    model.load_state_dict(state)
    print(f"test MAE {evaluate(model, test_loader, std):.3f}")


if __name__ == "__main__":
    main()
