"""A very deep residual network of linear layers on digits, without norm layers."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader

from toydata import Digits

config = {"depth": 24, "width": 64, "residual_scale": 0.1, "lr": 1e-3, "batch_size": 64}


class ScaledResidual(nn.Module):
    """x + alpha * f(x), with a learned alpha."""

    def __init__(self, width, scale):
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)
        self.act = nn.ReLU()
        self.alpha = nn.Parameter(torch.full((1,), float(scale)))
        for layer in (self.fc1, self.fc2):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        return x + self.alpha * self.fc2(self.act(self.fc1(self.act(x))))


class DeepNet(nn.Module):
    def __init__(self, inputs, classes, depth, width, scale):
        super().__init__()
        self.stem = nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU())
        self.body = nn.Sequential(*[ScaledResidual(width, scale) for _ in range(depth)])
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.body(self.stem(x)))


def transform(image):
    return (image.float() / 255 - 0.17) / 0.3


def build_loaders():
    train = Digits(train=True, count=1600, shift=1, transform=transform)
    val = Digits(train=False, count=300, shift=1, transform=transform)
    return (
        DataLoader(train, batch_size=config["batch_size"], shuffle=True, drop_last=True),
        DataLoader(val, batch_size=100),
    )


def setup():
    torch.manual_seed(0)
    train, val = build_loaders()
    model = DeepNet(256, 10, config["depth"], config["width"], config["residual_scale"])
    return {
        "model": model,
        "train": train,
        "val": val,
        "loss": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.Adam(model.parameters(), lr=config["lr"]),
    }
