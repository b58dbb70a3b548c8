"""`model.too-small`: does all information pass through too few units?"""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, quick_adam
from for_checks.networks import seeded
from striate.doctor.checks.model.too_small import TOO_SMALL


def narrow(width: int, norm: bool = False) -> nn.Module:
    more = [nn.BatchNorm1d(width)] if norm else []
    parts = (nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, width), *more, nn.ReLU(), nn.Linear(width, 10))
    return nn.Sequential(*parts)


class Pooled(nn.Module):
    def __init__(self, filters: int) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Conv2d(1, 8, 3), nn.Conv2d(8, filters, 3), nn.Linear(filters, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.b(self.a(x).relu()).relu().mean((2, 3)))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    "make", [lambda: narrow(1), lambda: narrow(2), lambda: narrow(2, norm=True), lambda: Pooled(1)]
)
def test_too_few_units_for_the_classes(make: Any) -> None:
    (found,) = asked(TOO_SMALL, seeded(make), digits(), optimizer=quick_adam)
    assert (found.code, found.severity) == ("model.too-small", "error")
    assert "for 10 classes; with 32 of them, the loss after" in found.measured
    assert "4 units or more" in found.threshold


class AroundIt(nn.Module):
    """A narrow branch with a way around it, and a gate of two units."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down, self.up = nn.Linear(64, 32), nn.Linear(32, 1), nn.Linear(1, 32)
        self.gate, self.last = nn.Sequential(nn.Linear(32, 2), nn.ReLU(), nn.Linear(2, 32)), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1)).relu()
        x = x + self.up(self.down(x).relu())
        return self.last(x * self.gate(x).sigmoid())


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("make", [lambda: narrow(8), AroundIt, lambda: Pooled(8)])
def test_enough_units(make: Any) -> None:
    assert not asked(TOO_SMALL, seeded(make), digits(), optimizer=quick_adam)


def test_two_classes_and_a_single_unit_are_right() -> None:
    x, y = next(iter(digits(320)))
    loader = DataLoader(TensorDataset(x, (y > 4).long()), 32, shuffle=True)
    model = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Tanh(), nn.Linear(1, 2)))
    assert not asked(TOO_SMALL, model, loader, optimizer=quick_adam)
