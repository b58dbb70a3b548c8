"""Healthy networks that have been trained before: done, half done, or with a trunk that is kept."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from planted.case import Case, healthy
from planted.healthy_batches import normed_network
from planted.healthy_losses import small_network
from planted.healthy_sources import digits, loader, loaders


def fit(model: nn.Module, batches: DataLoader, epochs: int, lr: float = 3e-3) -> torch.optim.Optimizer:
    """Train for some epochs; the optimizer with its state is returned."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return optimizer


@healthy
def well_trained_already(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = normed_network()
    fit(model, train, 8)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))


@healthy
def in_the_middle_of_its_training(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed))
    model = small_network()
    return Case(model, train, val, nn.CrossEntropyLoss(), fit(model, train, 3))


def digits_below_five(seed: int) -> DataLoader:
    """What a trunk is trained on before it gets a new task."""
    parts = digits(seed)
    return loader(parts.x[parts.y < 5], parts.y[parts.y < 5])


@healthy
def frozen_trunk_declared_frozen(seed: int) -> Case:
    torch.manual_seed(seed)
    model = small_network(24)
    fit(model, digits_below_five(seed), 8)
    for p in model.parameters():
        p.requires_grad = False
    model[-1] = nn.Linear(48, 10)
    train, val = loaders(digits(seed + 1))
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model[-1].parameters(), lr=5e-3))


class HeadOnly(nn.Module):
    """Features of a trunk that stays as it is, in evaluation mode and without gradients, and a head that learns."""

    def __init__(self, trunk: nn.Module, width: int) -> None:
        super().__init__()
        self.trunk = trunk.requires_grad_(False).eval()
        self.head = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, 10))

    def train(self, mode: bool = True) -> HeadOnly:
        super().train(mode)
        self.trunk.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.trunk(x)
        return self.head(features)


@healthy
def frozen_trunk_without_gradients(seed: int) -> Case:
    torch.manual_seed(seed)
    trained = normed_network()
    fit(trained, digits_below_five(seed), 6)
    model = HeadOnly(trained[:-1], 256)
    train, val = loaders(digits(seed + 1), 32)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.AdamW(model.head.parameters(), lr=2e-3))


@healthy
def trunk_with_a_smaller_rate(seed: int) -> Case:
    torch.manual_seed(seed)
    model = small_network(16)
    fit(model, digits_below_five(seed), 6)
    model[-1] = nn.Linear(48, 10)
    train, val = loaders(digits(seed + 1))
    groups = [{"params": model[:-1].parameters(), "lr": 3e-4}, {"params": model[-1].parameters(), "lr": 3e-3}]
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(groups))
