"""How good predictions are, whatever the loss of the user, and which classes outputs stand for."""

from __future__ import annotations

import pytest
import torch

from striate.doctor.evidence.quality import classes_of


@pytest.mark.parametrize(("shape", "known"), [((8, 1, 3), True), ((8, 3, 1), True), ((8, 2, 3), False)])
def test_axes_of_length_1_are_the_only_ones_beside_classes(shape: tuple[int, ...], known: bool) -> None:
    assert (classes_of(torch.rand(shape), torch.arange(8) % 3) is not None) == known
