"""A module that holds its steps and its optimizer. The bug: the optimizer gets another network's parameters."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, random_split

CODES = ("optim.parameters-missing", "optim.no-step")


class LitModel(nn.Module):
    def __init__(self, hidden: int = 64, learning_rate: float = 1e-3, broken: bool = False):
        super().__init__()
        self.hidden = hidden
        self.learning_rate = learning_rate
        self.broken = broken
        self.net = self.build_net()
        self.loss_fn = nn.CrossEntropyLoss()

    def build_net(self):
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, self.hidden),
            nn.BatchNorm1d(self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, 10),
        )

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):  # noqa: ARG002
        x, y = batch
        return self.loss_fn(self(x), y)

    def configure_optimizers(self):
        net = self.build_net() if self.broken else self.net
        return torch.optim.Adam(net.parameters(), lr=self.learning_rate)


class Digits(torch.utils.data.Dataset):
    def __init__(self):
        data = load_digits()
        self.images, self.labels = data.images, data.target

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = torch.tensor(self.images[i], dtype=torch.float32).unsqueeze(0)
        return (image - 4.88) / 6.02, int(self.labels[i])


def setup(broken: bool) -> dict[str, Any]:
    torch.manual_seed(1)
    train_set, val_set = random_split(Digits(), [1400, 397], generator=torch.Generator().manual_seed(1))
    model = LitModel(broken=broken)

    def step(model, batch, optimizer, loss):
        loss = model.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return {
        "model": model,
        "train": DataLoader(train_set, batch_size=64, shuffle=True),
        "val": DataLoader(val_set, batch_size=64),
        "optimizer": model.configure_optimizers(),
        "step": step,
    }
