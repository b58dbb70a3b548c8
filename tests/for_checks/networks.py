"""Networks that tests of checks share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class TwoHeads(nn.Module):
    def __init__(self, first: int = 2, second: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
        self.first, self.second = nn.Linear(32, first), nn.Linear(32, second)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(x)
        return self.first(hidden), self.second(hidden).squeeze(1)


class Middle(nn.Module):
    """A perceptron with something in the middle."""

    def __init__(self, middle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.act = nn.Linear(64, 24), nn.Linear(24, 10), middle

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(self.first(x.flatten(1)).relu()))


class Small(nn.Module):
    """What the networks here have in common: `forward` gets rows of 64 numbers, and gives 10 scores."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(64, 24), nn.Linear(24, 10)
        self.make()

    def make(self) -> None:
        """More parts."""

    def middle(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x.flatten(1)).relu()))


class InList(Small):
    def make(self) -> None:
        self.layers = [nn.Linear(24, 24) for _ in range(3)]

    def middle(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).relu()
        return x


class NeverCalled(Small):
    def make(self) -> None:
        self.norm, self.second = nn.BatchNorm1d(24), nn.Linear(24, 24)

    def middle(self, x: Tensor) -> Tensor:
        return self.second(x).relu()


def filled(model: nn.Sequential, weight: float | None, bias: float | None) -> nn.Sequential:
    """The hidden layers with one value for all weights, or all biases."""
    layers = [layer for layer in model if isinstance(layer, nn.Linear | nn.Conv2d)]
    for layer in layers[:-1]:
        if weight is not None:
            nn.init.constant_(layer.weight, weight)
        if bias is not None and layer.bias is not None:
            nn.init.constant_(layer.bias, bias)
    return model


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make()


def two_layers(inputs: int, outputs: int) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, outputs))


def convolutions() -> nn.Module:
    """For digits."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 16, 10))
