"""`model.dead-units`: are most units of a layer off, whatever the input?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from for_checks.asked import asked, digits, perceptron
from for_checks.networks import filled
from striate.doctor.checks.model.dead_units import DEAD_UNITS


@pytest.mark.slow
def test_units_that_are_off_for_all_samples() -> None:
    (found,) = asked(DEAD_UNITS, filled(perceptron(), None, -20.0), digits())
    assert (found.code, found.severity) == ("model.dead-units", "error")
    assert found.measured.startswith("100 % of the units")
    assert "with he-normal weights and biases of zero the loss after" in found.measured
    assert not asked(DEAD_UNITS, perceptron(depth=6), digits())


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("relu", [functional.relu, lambda x: x.clamp(min=0), lambda x: torch.clamp_min(x, 0)])
def test_a_threshold_of_ones_own(relu: Callable[[Tensor], Tensor]) -> None:
    class Threshold(nn.Module):
        def __init__(self, least: float) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.least = nn.Linear(64, 32), nn.Linear(32, 10), least

        def forward(self, x: Tensor) -> Tensor:
            return self.b(relu(self.a(x.flatten(1)) - self.least))

    assert asked(DEAD_UNITS, Threshold(20.0), digits())
    assert not asked(DEAD_UNITS, Threshold(0.0), digits())
