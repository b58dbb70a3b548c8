"""A network with as many blocks as one likes. The bug: they are kept in a plain list, where no optimizer sees them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F  # noqa: N812
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Subset, TensorDataset

CODES = ("model.unregistered-parameters",)


class Block(nn.Module):
    def __init__(self, in_ch, out_ch):
        super().__init__()
        self.conv = nn.Conv2d(in_ch, out_ch, 3, padding=1)

    def forward(self, x):
        return F.relu(self.conv(x))


class BlockNet(nn.Module):
    def __init__(self, channels=(1, 12, 12, 24), broken=False):
        super().__init__()
        blocks = [Block(a, b) for a, b in pairwise(channels)]
        self.blocks = blocks if broken else nn.ModuleList(blocks)
        self.head = nn.Linear(channels[-1], 10)

    def forward(self, x):
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i == 0:
                x = F.max_pool2d(x, 2)
        return self.head(x.amax(dim=(2, 3)))


def setup(broken: bool) -> dict[str, Any]:
    torch.manual_seed(8)
    images, labels = load_digits(return_X_y=True)
    images = (torch.tensor(images).float().reshape(-1, 1, 8, 8) - 5) / 6
    data = TensorDataset(images, torch.tensor(labels))
    order = torch.randperm(len(data)).tolist()
    model = BlockNet(broken=broken)

    def train_batch(model, batch, optimizer, loss_function):
        x, y = batch
        model.zero_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return {
        "model": model,
        "train": DataLoader(Subset(data, order[:1400]), batch_size=64, shuffle=True),
        "val": DataLoader(Subset(data, order[1400:]), batch_size=64),
        "loss": F.cross_entropy,
        "optimizer": torch.optim.Adam(model.parameters(), lr=3e-3),
        "step": train_batch,
    }
