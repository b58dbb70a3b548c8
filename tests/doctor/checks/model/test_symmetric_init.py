"""`model.symmetric-init`: do all units of a layer start alike and stay alike?"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from for_checks.asked import asked, digits, perceptron
from for_checks.networks import filled
from striate.doctor.checks.model.collapsed import COLLAPSED
from striate.doctor.checks.model.redundant_filters import REDUNDANT_FILTERS
from striate.doctor.checks.model.symmetric_init import SYMMETRIC_INIT


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("weight", [0.0, 0.05])
def test_units_that_begin_alike(weight: float) -> None:
    model = filled(perceptron(depth=2), weight, 0.0)
    if weight == 0:
        nn.init.zeros_(model[-1].weight)
    (found,) = asked(SYMMETRIC_INIT, model, digits())
    assert (found.code, found.severity) == ("model.symmetric-init", "error")
    assert "after" in found.measured
    assert "they are still the same" in found.measured


def test_one_layer_of_a_constant_before_a_random_one() -> None:
    (found,) = asked(
        SYMMETRIC_INIT,
        filled(perceptron(64), 0.1, None),
        digits(),
        optimizer=lambda p: torch.optim.SGD(p, 0.05),
    )
    assert (found.code, found.severity) == ("model.symmetric-init", "warning")


def test_weights_of_zero_before_random_biases() -> None:
    model = perceptron(64, depth=2)
    for layer in (model[1], model[3], model[5]):
        nn.init.zeros_(layer.weight)
    (found,) = asked(SYMMETRIC_INIT, model, digits(), optimizer=lambda p: torch.optim.SGD(p, 0.05))
    assert found.code == "model.symmetric-init"


class Branch(nn.Module):
    """A residual block whose last layer begins at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(32, 32), nn.Linear(32, 32)
        nn.init.zeros_(self.b.weight)
        nn.init.zeros_(self.b.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(functional.relu(self.a(x)))


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("check", [SYMMETRIC_INIT, COLLAPSED, REDUNDANT_FILTERS])
def test_branches_and_heads_may_begin_at_zero(check: object) -> None:
    model = perceptron()
    model.insert(3, Branch())
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    assert not asked(check, model, digits())  # type: ignore[arg-type]
