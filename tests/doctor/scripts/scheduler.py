"""A schedule beside the loop. The bug: it is stepped after every batch, though its steps are meant as epochs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn as nn
import torch.optim as optim
from sklearn.datasets import load_digits
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

CODES = ("optim.lr-schedule",)


def get_data():
    x, y = load_digits(return_X_y=True)
    x = torch.from_numpy(x).float().view(-1, 1, 8, 8).sub(4.884).div(6.017)
    y = torch.from_numpy(y)
    return TensorDataset(x[:1300], y[:1300]), TensorDataset(x[1300:], y[1300:])


def get_model():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def setup(broken: bool) -> dict[str, Any]:
    torch.manual_seed(5)
    train_set, val_set = get_data()
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True)
    model = get_model()
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    scheduler = StepLR(optimizer, step_size=3, gamma=0.5)
    seen = 0

    def train_batch(model, batch, optimizer, criterion):
        nonlocal seen
        data, target = batch
        optimizer.zero_grad()
        loss = criterion(model(data), target)
        loss.backward()
        optimizer.step()
        seen += 1
        if broken or seen % len(train_loader) == 0:
            scheduler.step()
        return loss

    return {
        "model": model,
        "train": train_loader,
        "val": DataLoader(val_set, batch_size=128),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": optimizer,
        "step": train_batch,
    }
