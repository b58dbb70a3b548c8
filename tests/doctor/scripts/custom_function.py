"""An activation with its derivative by hand. The bug: its two slopes are swapped."""

from __future__ import annotations

import random
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

CODES = ("optim.gradient-wrong",)


class MyLeakyReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x > 0, x, 0.1 * x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, grad_output, 0.1 * grad_output)


class MyWrongLeakyReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x > 0, x, 0.1 * x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return torch.where(x > 0, 0.1 * grad_output, grad_output)


class ConvNet(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.act = act
        self.c1 = nn.Conv2d(1, 12, 3, padding=1)
        self.c2 = nn.Conv2d(12, 24, 3, stride=2, padding=1)
        self.out = nn.Linear(24 * 4 * 4, 10)

    def forward(self, x):
        x = self.act(self.c1(x))
        x = self.act(self.c2(x))
        return self.out(x.view(x.size(0), -1))


def setup(broken: bool) -> dict[str, Any]:
    torch.manual_seed(4)
    digits = load_digits()
    pairs = [
        (torch.tensor(image[None] / 8 - 1, dtype=torch.float32), int(label))
        for image, label in zip(digits.images, digits.target, strict=True)
    ]
    random.Random(4).shuffle(pairs)
    model = ConvNet(MyWrongLeakyReLU.apply if broken else MyLeakyReLU.apply)

    def step(model, batch, optimizer, criterion):
        optimizer.zero_grad()
        x, y = batch
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return {
        "model": model,
        "train": DataLoader(pairs[:1400], batch_size=50, shuffle=True),
        "val": DataLoader(pairs[1400:], batch_size=50),
        "loss": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9),
        "step": step,
    }
