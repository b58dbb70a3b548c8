"""Forecast the next twelve hours of an hourly load with a GRU and Accelerate, split by time."""
import math
import os
import tempfile
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Dataset


@dataclass
class ForecastConfig:
    context_length: int = 48
    prediction_length: int = 12
    hidden_size: int = 48
    batch_size: int = 32
    gradient_accumulation_steps: int = 2
    num_epochs: int = 8
    learning_rate: float = 6e-3
    warmup_steps: int = 15
    max_grad_norm: float = 1.0
    seed: int = 5


def make_series(hours=2000, seed=0):
    rng = np.random.default_rng(seed)
    index = pd.date_range("2021-03-01", periods=hours, freq="h")
    hour, weekend = index.hour.to_numpy(), index.dayofweek.to_numpy() >= 5
    noise = np.zeros(hours)
    for t in range(1, hours):
        noise[t] = 0.8 * noise[t - 1] + rng.normal()
    daily = 10 * np.sin(2 * np.pi * hour / 24) + 4 * np.sin(4 * np.pi * hour / 24 + 1)
    return pd.Series(50 + daily - 5 * weekend + noise, index=index, name="load")


class WindowDataset(Dataset):
    """Windows lie inside their own stretch of the series; the past has the calendar beside the load."""

    def __init__(self, series, mean, std, config):
        self.config = config
        self.load = torch.tensor(((series - mean) / std).to_numpy(), dtype=torch.float32)
        hour, day = series.index.hour.to_numpy(), series.index.dayofweek.to_numpy() + series.index.hour.to_numpy() / 24
        calendar = [f(2 * np.pi * x / period) for x, period in ((hour, 24), (day, 7)) for f in (np.sin, np.cos)]
        self.calendar = torch.tensor(np.stack(calendar, axis=1), dtype=torch.float32)

    def __len__(self):
        return len(self.load) - self.config.context_length - self.config.prediction_length + 1

    def __getitem__(self, start):
        middle = start + self.config.context_length
        past = torch.cat([self.load[start:middle, None], self.calendar[start:middle]], dim=1)
        return past, self.load[middle : middle + self.config.prediction_length]


class GRUForecaster(nn.Module):
    def __init__(self, config, num_features=5):
        super().__init__()
        self.rnn = nn.GRU(num_features, config.hidden_size, batch_first=True)
        self.head = nn.Sequential(
            nn.Linear(config.hidden_size, 64), nn.ReLU(), nn.Linear(64, config.prediction_length)
        )

    def forward(self, past):
        _, last = self.rnn(past)
        return self.head(last[-1])


def lr_lambda(step, warmup, total):
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))


@torch.no_grad()
def evaluate(accelerator, model, dataloader):
    model.eval()
    predictions, targets = [], []
    for past, future in dataloader:
        pred, future = accelerator.gather_for_metrics((model(past), future))
        predictions.append(pred)
        targets.append(future)
    predictions, targets = torch.cat(predictions), torch.cat(targets)
    mse = ((predictions - targets) ** 2).mean().item()
    return mse, 1 - mse / targets.var(unbiased=False).item()


def main():
    config = ForecastConfig()
    accelerator = Accelerator(gradient_accumulation_steps=config.gradient_accumulation_steps, cpu=True)
    set_seed(config.seed)

    series = make_series()
    first, second = int(0.7 * len(series)), int(0.85 * len(series))
    stretches = series.iloc[:first], series.iloc[first:second], series.iloc[second:]
    mean, std = stretches[0].mean(), stretches[0].std()
    train_set, val_set, test_set = (WindowDataset(part, mean, std, config) for part in stretches)
    train_loader = DataLoader(train_set, batch_size=config.batch_size, shuffle=True)
    val_loader, test_loader = (DataLoader(s, batch_size=80) for s in (val_set, test_set))

    model = GRUForecaster(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=1e-3)
    total_steps = config.num_epochs * math.ceil(len(train_loader) / config.gradient_accumulation_steps)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: lr_lambda(s, config.warmup_steps, total_steps))
    criterion = nn.MSELoss()
    model, optimizer, train_loader, val_loader, test_loader, scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, test_loader, scheduler
    )

    best_mse, path = float("inf"), os.path.join(tempfile.mkdtemp(), "best.pt")
    for epoch in range(config.num_epochs):
        model.train()
        total_loss = 0.0
        for past, future in train_loader:
            with accelerator.accumulate(model):
                loss = criterion(model(past), future)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            total_loss += loss.item()
        val_mse, val_r2 = evaluate(accelerator, model, val_loader)
        accelerator.print(f"epoch {epoch}: train {total_loss / len(train_loader):.4f} val {val_mse:.4f} R2 {val_r2:.3f}")
        if val_mse < best_mse:
            best_mse = val_mse
            accelerator.save(accelerator.unwrap_model(model).state_dict(), path)

    accelerator.unwrap_model(model).load_state_dict(torch.load(path))
    test_mse, test_r2 = evaluate(accelerator, model, test_loader)
    accelerator.print(f"test: RMSE {math.sqrt(test_mse) * std:.3f}, R2 {test_r2:.3f}")


if __name__ == "__main__":
    main()
