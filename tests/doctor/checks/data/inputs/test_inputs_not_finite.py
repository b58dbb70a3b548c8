"""`data.not-finite`: are all values of inputs and targets finite, or harmless if not?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from for_checks.asked import asked, perceptron, pixels
from striate.doctor.checks.data.inputs.not_finite import NOT_FINITE


def test_a_single_nan_is_told_with_its_place() -> None:
    x, y = pixels()
    x[7, 0, 2, 2] = float("nan")
    (finding,) = asked(NOT_FINITE, perceptron(), (x, y))
    assert finding.severity == "error"
    assert "1 of 320 samples have inputs with a number that is NaN" in finding.measured


def test_gaps_that_the_network_fills_are_a_note() -> None:
    class Filling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = perceptron()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(torch.nan_to_num(x))  # type: ignore[no-any-return]

    x, y = pixels()
    x[::9, 0, 0, 0] = float("nan")
    (finding,) = asked(NOT_FINITE, Filling(), (x, y))
    assert finding.severity == "note"


def test_infinite_validation_counts_too() -> None:
    x, y = pixels()
    odd = x[:40].clone()
    odd[3] = float("inf")
    (finding,) = asked(NOT_FINITE, perceptron(), (x, y), val=(odd, y[:40]))
    assert (finding.severity, finding.where) == ("error", "validation inputs")
    assert "infinite" in finding.measured
    assert "parameters" not in finding.why
