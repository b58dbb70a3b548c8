"""One check asked about one setup, as a diagnosis would; small data and loops that tests share."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from remedies_tried import try_remedy
from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.training_setup import make_setup
from striate.records import Finding


def asked(check: Check, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    """What the check finds; each remedy is tried, and each limit is a clause."""
    setup = make_setup(model, train, options.pop("val", None), **options)
    with state_preserved(setup):
        # So long that nothing is left out on busy cores; what is measured takes a fraction of it.
        found = list(check.run(Evidence(setup, Clock(120.0))))
    for finding in found:
        try_remedy(finding.remedy)
        assert 0 < len(finding.threshold) <= 300, finding
    return found


@cache
def _digits() -> tuple[Tensor, Tensor]:
    x, y = load_digits(return_X_y=True)
    pixels = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return (pixels - pixels.mean()) / pixels.std(), torch.tensor(y).long()


def digits(batch: int = 32, most: int = 640) -> DataLoader[Any]:
    """Standardized digits (1, 8, 8), shuffled."""
    x, y = _digits()
    generator = torch.Generator().manual_seed(0)
    return DataLoader(TensorDataset(x[:most], y[:most]), batch, shuffle=True, generator=generator)


def perceptron(hidden: int = 32, depth: int = 1, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """A fresh network for digits."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(depth):
        layers += [nn.Linear(64 if i == 0 else hidden, hidden), activation()]
    return nn.Sequential(*layers, nn.Linear(hidden, 10))


def loop(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
    """A training step."""
    optimizer.zero_grad()
    value: Tensor = loss(model(batch[0]), batch[1])
    value.backward()
    optimizer.step()
    return value.detach()
