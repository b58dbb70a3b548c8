"""Forecast of an hourly load: 48 hours in, 12 hours out, split by time, compared with yesterday's values."""

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

HISTORY, HORIZON = 48, 12


def make_series(hours=5000, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(hours)
    weekend = ((t // 24) % 7 >= 5).astype(float)
    load = 500 + 120 * np.sin(2 * np.pi * t / 24) * (1 - 0.6 * weekend) + 40 * np.sin(4 * np.pi * t / 24) - 60 * weekend
    drift = np.zeros(hours)
    for i in range(1, hours):
        drift[i] = 0.97 * drift[i - 1] + 4 * rng.standard_normal()
    calendar = np.stack([np.sin(2 * np.pi * t / 24), np.cos(2 * np.pi * t / 24), weekend], axis=1)
    return (load + drift + 4 * rng.standard_normal(hours)).astype(np.float32), calendar.astype(np.float32)


class Windows(Dataset):
    def __init__(self, load, calendar, stride=1):
        self.load, self.calendar, self.stride = torch.from_numpy(load), torch.from_numpy(calendar), stride

    def __len__(self):
        return (len(self.load) - HISTORY - HORIZON) // self.stride + 1

    def __getitem__(self, index):
        start = index * self.stride
        now, end = start + HISTORY, start + HISTORY + HORIZON
        past = torch.cat([self.load[start:now, None], self.calendar[start:now]], dim=1)
        # the calendar of the hours to come is known in advance, their load is not
        return past, self.calendar[now:end].flatten(), self.load[now:end]


class Forecaster(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.encoder = nn.GRU(4, hidden, batch_first=True)
        self.decoder = nn.Sequential(nn.Linear(hidden + 3 * HORIZON, 96), nn.ReLU(), nn.Linear(96, HORIZON))

    def forward(self, past, future):
        _, state = self.encoder(past)
        # the network predicts the change from the last value seen
        return past[:, -1, :1] + self.decoder(torch.cat([state[-1], future], dim=1))


load, calendar = make_series()
cut, gap = 4000, HISTORY
mean, std = load[:cut].mean(), load[:cut].std()
scaled = (load - mean) / std
train_set = Windows(scaled[:cut], calendar[:cut])
val_set = Windows(scaled[cut + gap :], calendar[cut + gap :], stride=3)

torch.manual_seed(0)
train_loader = DataLoader(train_set, batch_size=128, shuffle=True)
val_loader = DataLoader(val_set, batch_size=256)
model = Forecaster()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
EPOCHS = 14
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, epochs=EPOCHS, steps_per_epoch=len(train_loader))
criterion = nn.SmoothL1Loss(beta=0.5)


def validate():
    model.eval()
    errors, naive = [], []
    with torch.no_grad():
        for past, future, target in val_loader:
            errors.append((model(past, future) - target).abs().mean(1))
            yesterday = past[:, HISTORY - 24 : HISTORY - 24 + HORIZON, 0]
            naive.append((yesterday - target).abs().mean(1))
    return torch.cat(errors).mean().item() * std, torch.cat(naive).mean().item() * std


for epoch in range(1, EPOCHS + 1):
    model.train()
    total = 0.0
    for past, future, target in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(past, future), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(target)
    mae, naive = validate()
    print(f"epoch {epoch:2d} train {total / len(train_set):.4f} val MAE {mae:.1f} (as yesterday: {naive:.1f})")
