"""`fit.overfit`: are training samples predicted almost perfectly, and validation samples much worse?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from for_checks.asked import asked, digits, loop, perceptron
from striate.doctor.checks.fit.overfit import OVERFIT

LOSS = nn.CrossEntropyLoss()


def adam(model: nn.Module, lr: float = 5e-3, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr, **options)


def rare(count: int, seed: int, *, told: bool) -> tuple[Tensor, Tensor]:
    """40 columns; one sample of 25 is of class 1, which the first column tells, or nothing does."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(count, 40, generator=generator), (torch.arange(count) % 25 == 0).long()
    x[:, 0] += 4.0 * y * told
    return x, y


@pytest.mark.slow
@pytest.mark.parametrize("told", [True, False])
def test_a_rare_class_that_was_learned_by_heart(told: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(40, 256), nn.ReLU(), nn.Linear(256, 2))
    train = DataLoader(TensorDataset(*rare(1000, 0, told=told)), 50, shuffle=True)
    found = asked(OVERFIT, model, train, val=rare(1500, 1, told=told), loss=LOSS, optimizer=adam(model))
    assert [finding.severity for finding in found] == ([] if told else ["warning"])
    assert told or "the most frequent class alone: 96.0 %" in found[0].measured


def noisy(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """200 columns, of which one says something."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 200, generator=generator)
    return x, (x[:, 0] + 0.7 * torch.randn(count, generator=generator) > 0).long()


@pytest.mark.slow
def test_a_table_that_was_learned_by_heart() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(200, 64), nn.ReLU(), nn.Linear(64, 2))
    train = DataLoader(TensorDataset(*noisy(80, 0)), 16, shuffle=True)
    (found,) = asked(OVERFIT, model, train, val=noisy(200, 1), loss=LOSS, optimizer=adam(model))
    assert (found.code, found.severity) == ("fit.overfit", "warning")
    assert "100.0 % right on 80 training samples" in found.measured
    assert "weight_decay" in found.remedy


def test_a_trained_network_is_judged_as_it_was_given() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(200, 64), nn.ReLU(), nn.Linear(64, 2))
    x, y = noisy(80, 0)
    optimizer = adam(model)
    for _ in range(100):
        loop(model, (x, y), optimizer, LOSS)
    train = DataLoader(TensorDataset(x, y), 16, shuffle=True)
    (found,) = asked(OVERFIT, model, train, val=noisy(200, 1), loss=LOSS, optimizer=optimizer)
    assert found.measured.startswith("before any step")


def test_all_training_samples_right_and_good_validation_is_healthy() -> None:
    model = perceptron(128)
    data: Any = digits(32, 640).dataset
    x, y = data.tensors
    train = DataLoader(TensorDataset(x[:500], y[:500]), 32, shuffle=True)
    assert not asked(OVERFIT, model, train, val=(x[500:], y[500:]), loss=LOSS, optimizer=adam(model))


class Augmented(Dataset[Any]):
    def __init__(self, x: Tensor, y: Tensor, noise: float) -> None:
        self.x, self.y, self.noise = x, y, noise

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.x[number] + self.noise * torch.randn(200), self.y[number]


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "severity"), [(0.0, "warning"), (0.01, "note")])
def test_learning_augmented_samples_by_heart_is_a_note(noise: float, severity: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(280, 200, generator=generator)
    y = (x[:, 0] + 0.7 * torch.randn(280, generator=generator) > 0).long()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(200, 64), nn.ReLU(), nn.Linear(64, 2))
    loader = DataLoader(Augmented(x[:80], y[:80], noise), 16, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    (said,) = asked(OVERFIT, model, loader, val=(x[80:], y[80:]), loss=LOSS, optimizer=optimizer)
    assert said.severity == severity
