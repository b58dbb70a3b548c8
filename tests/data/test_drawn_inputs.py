"""Inputs that are not pictures, as pictures of them."""

from __future__ import annotations

import numpy as np
import torch

from striate.data.drawn_inputs import DrawnInputs
from striate.data.media.medium import Preparation


def test_inputs_are_drawn_in_the_order_that_is_asked_for() -> None:
    levels = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    drawn = DrawnInputs(levels, Preparation("raster", (1, 2, 2), low=(0.0,), high=(255.0,)))
    assert drawn[np.arange(3)[::-1]][:, 0, 0, 0].tolist() == [2, 1, 0]
