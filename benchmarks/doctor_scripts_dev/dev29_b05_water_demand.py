"""Quantile forecasts of the water demand of 24 districts, twelve hours ahead, with Accelerate."""

import math

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset

CONTEXT, HORIZON = 48, 12
QUANTILES = torch.tensor([0.1, 0.5, 0.9])


def water_demand(districts=24, hours=1100, seed=7):
    """Cubic meters an hour: a daily curve, lower at weekends, and a slow drift; districts of very different sizes."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(hours).float()
    size = 40 * 10 ** (1.6 * torch.rand(districts, 1, generator=generator))
    phase = 6 * torch.rand(districts, 1, generator=generator)
    angle = 2 * math.pi * (time - phase) / 24
    day = torch.sin(angle) + 0.5 * torch.sin(2 * angle + 1)
    week = torch.where((time // 24) % 7 >= 5, 0.8, 1.0)
    shocks = 0.04 * torch.randn(districts, hours, generator=generator)
    drift = torch.zeros(districts, hours)
    for hour in range(1, hours):
        drift[:, hour] = 0.95 * drift[:, hour - 1] + shocks[:, hour]
    return size * (1 + 0.3 * week * day + drift)


class Windows(Dataset):
    """Pieces of the hours from start to stop: the past, what follows, and the district's number."""

    def __init__(self, values, mean, std, start, stop, stride):
        self.values = values
        self.scaled = (values - mean) / std
        last = stop - CONTEXT - HORIZON
        self.places = [(district, hour) for district in range(len(values)) for hour in range(start, last + 1, stride)]

    def __len__(self):
        return len(self.places)

    def __getitem__(self, index):
        district, begin = self.places[index]
        middle, end = begin + CONTEXT, begin + CONTEXT + HORIZON
        past = self.scaled[district, begin:middle]
        future = self.scaled[district, middle:end]
        return past, future, district


class QuantileGRU(nn.Module):
    def __init__(self, hidden=40):
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, 64), nn.ReLU(), nn.Linear(64, HORIZON * len(QUANTILES)))

    def forward(self, past):
        states, _ = self.gru(past.unsqueeze(-1))
        return self.head(states[:, -1]).view(-1, HORIZON, len(QUANTILES))


def pinball(prediction, future):
    error = future.unsqueeze(-1) - prediction
    return torch.maximum(QUANTILES * error, (QUANTILES - 1) * error).mean()


@torch.no_grad()
def evaluate(accelerator, model, loader, mean, std):
    """Absolute error of the median and of yesterday's values, each in parts of the demand; share of hours in the band."""
    model.eval()
    missed = naive_missed = demand = inside = hours = 0.0
    for past, future, district in loader:
        prediction = model(past)
        prediction, past, future, district = accelerator.gather_for_metrics((prediction, past, future, district))
        low, median, high = prediction.unbind(dim=-1)
        scale, offset = std[district], mean[district]
        truth = future * scale + offset
        missed += (median * scale + offset - truth).abs().sum().item()
        naive_missed += (past[:, -24 : HORIZON - 24] * scale + offset - truth).abs().sum().item()
        demand += truth.sum().item()
        inside += ((future >= low) & (future <= high)).sum().item()
        hours += future.numel()
    return missed / demand, naive_missed / demand, inside / hours


def training_function(config):
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=config["accumulate"])
    set_seed(config["seed"])
    torch.set_num_threads(1)

    values = water_demand()
    border = int(0.7 * values.shape[1])
    mean = values[:, :border].mean(dim=1, keepdim=True)
    std = values[:, :border].std(dim=1, keepdim=True)
    train_set = Windows(values, mean, std, 0, border, stride=3)
    valid_set = Windows(values, mean, std, border, values.shape[1], stride=5)

    model = QuantileGRU()
    optimizer = torch.optim.Adam(model.parameters(), lr=config["lr"])
    model, optimizer, train_loader, valid_loader = accelerator.prepare(
        model,
        optimizer,
        DataLoader(train_set, batch_size=config["batch_size"], shuffle=True),
        DataLoader(valid_set, batch_size=256),
    )

    for epoch in range(config["epochs"]):
        model.train()
        total = 0.0
        for past, future, _ in train_loader:
            with accelerator.accumulate(model):
                loss = pinball(model(past), future)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
            total += loss.item()
        error, naive, coverage = evaluate(accelerator, model, valid_loader, mean, std)
        accelerator.print(
            f"epoch {epoch:2d}: train pinball {total / len(train_loader):.4f}, valid error {error:.4f} "
            f"(as yesterday: {naive:.4f}), in the 80 % band {coverage:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    training_function({"lr": 3e-3, "batch_size": 64, "accumulate": 1, "epochs": 15, "seed": 42})
