"""Forecast of an hourly demand, 12 hours ahead from 48: an LSTM trained with Accelerate."""

import copy
import math

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset

CONFIG = {
    "length": 6000,
    "context": 48,
    "horizon": 12,
    "hidden": 48,
    "batch_size": 64,
    "epochs": 24,
    "lr": 5e-3,
    "seed": 11,
}


def make_demand(length, seed):
    rng = np.random.default_rng(seed)
    hour = np.arange(length)
    daily = np.sin(2 * math.pi * hour / 24) + 0.4 * np.sin(4 * math.pi * hour / 24 + 1.0)
    weekly = np.sin(2 * math.pi * hour / 168)
    noise = np.zeros(length)
    shocks = rng.normal(0, 0.3, length)
    for t in range(1, length):
        noise[t] = 0.9 * noise[t - 1] + shocks[t]
    demand = 500 + 120 * daily * (1 + 0.3 * weekly) + 50 * weekly + 12 * noise
    return torch.tensor(demand, dtype=torch.float32)


class Windows(Dataset):
    """All windows of a series: what was, and what comes next."""

    def __init__(self, series, context, horizon):
        self.series, self.context, self.horizon = series, context, horizon

    def __len__(self):
        return len(self.series) - self.context - self.horizon + 1

    def __getitem__(self, index):
        middle = index + self.context
        past = self.series[index:middle].unsqueeze(-1)
        future = self.series[middle : middle + self.horizon]
        return past, future


class Forecaster(nn.Module):
    def __init__(self, hidden, horizon):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, horizon)

    def forward(self, past):
        out, _ = self.lstm(past)
        return self.head(out[:, -1])


def evaluate(accelerator, model, loader, scale):
    model.eval()
    errors = []
    for past, future in loader:
        with torch.no_grad():
            prediction = model(past)
        prediction, future = accelerator.gather_for_metrics((prediction, future))
        errors.append((prediction - future).abs())
    return torch.cat(errors).mean().item() * scale


def training_function(config):
    accelerator = Accelerator(cpu=True)
    set_seed(config["seed"])
    torch.set_num_threads(1)
    context, horizon = config["context"], config["horizon"]

    series = make_demand(config["length"], seed=config["seed"])
    train_end, val_end = int(0.7 * len(series)), int(0.85 * len(series))
    mean, std = series[:train_end].mean(), series[:train_end].std()
    series = (series - mean) / std
    train_set = Windows(series[:train_end], context, horizon)
    val_set = Windows(series[train_end:val_end], context, horizon)
    test_set = Windows(series[val_end:], context, horizon)
    train_loader = DataLoader(train_set, batch_size=config["batch_size"], shuffle=True)
    val_loader = DataLoader(val_set, batch_size=config["batch_size"])
    test_loader = DataLoader(test_set, batch_size=config["batch_size"])

    model = Forecaster(config["hidden"], horizon)
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=config["lr"], total_steps=config["epochs"] * len(train_loader)
    )
    model, optimizer, train_loader, val_loader, test_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, test_loader, scheduler
    )

    scale = std.item()
    best_mae, best_state = float("inf"), None
    for epoch in range(config["epochs"]):
        model.train()
        total, count = 0.0, 0
        for past, future in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(past), future)
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            total += loss.item() * len(past)
            count += len(past)

        mae = evaluate(accelerator, model, val_loader, scale)
        if mae < best_mae:
            best_mae = mae
            best_state = copy.deepcopy(accelerator.unwrap_model(model).state_dict())
        accelerator.print(f"epoch {epoch:2d}: train mse {total / count:.4f}, val mae {mae:.2f}, best {best_mae:.2f}")

    accelerator.unwrap_model(model).load_state_dict(best_state)
    test_mae = evaluate(accelerator, model, test_loader, scale)
    naive = (series[val_end + 24 :] - series[val_end:-24]).abs().mean().item() * scale
    accelerator.print(f"test mae {test_mae:.2f} (same hour of the day before: {naive:.2f})")


def main():
    training_function(CONFIG)


if __name__ == "__main__":
    main()
