"""What a network predicts in evaluation mode, through the user's own step where only that knows how to call it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from striate.doctor.evidence.predictions import Predictions, are_blends


def cut(x: Tensor) -> Tensor:
    mixed = x.clone()
    mixed[:, :, 2:6, 2:6] = x.flip(0)[:, :, 2:6, 2:6]
    return mixed


@pytest.mark.parametrize(
    ("change", "blended"),
    [
        (lambda x: 0.7 * x + 0.3 * x.flip(0), True),
        (cut, True),
        (lambda x: x, False),
        (lambda x: 0.7 * x, False),
        (lambda x: (x - 0.5) / 0.2, False),
        (lambda x: x + 0.1 * torch.randn_like(x), False),
        (lambda x: x.roll(1, -1), False),
    ],
)
@pytest.mark.parametrize("samples", [12, 64])
def test_blends_of_samples_are_known(change: Any, blended: bool, samples: int) -> None:
    """Also in batches of as many samples as a sample has numbers."""
    x = torch.rand(samples, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert are_blends(change(x), x) is blended


@pytest.mark.parametrize(("unit", "kept"), [(20.0, False), (1.0, True)])
def test_targets_in_another_unit_are_brought_to_that_of_training(unit: float, kept: bool) -> None:
    y = torch.linspace(-1.5, 1.5, 50)
    val = Predictions(y, unit * y + (100 if unit > 1 else 0), 0.0)
    moved = val.in_unit_of(Predictions(y, y, 0.0))
    assert (moved is val) is kept
    assert moved.targets is not None
    assert torch.allclose(moved.targets, y, atol=1e-4)
