"""Pictures of inputs that are not pictures, drawn when they are indexed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Preparation
from striate.data.store.stored import Inputs

SIDE = 320
"""Pixels of the longer side, at which labels in the pictures are still readable."""


@dataclass(frozen=True)
class DrawnInputs:
    """Pictures of the inputs (N, …), as their medium draws them."""

    inputs: Inputs
    preparation: Preparation

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, rows: NDArray[Any]) -> NDArray[np.uint8]:
        """(K, 3, H, W) of the inputs at `rows`, or (K, 1, H, W) in gray."""
        medium = medium_of(self.preparation.kind)
        chosen = torch.from_numpy(np.array(rows))  # a copy, since torch cannot index with a reversed view
        drawn = [medium.drawn(one, self.preparation) for one in self.inputs[chosen].cpu().numpy()]
        planes = [one[None] if one.ndim == 2 else one.transpose(2, 0, 1) for one in drawn if one is not None]
        return np.stack(planes)


def drawn_inputs(inputs: Inputs, preparation: Preparation) -> DrawnInputs | None:
    """The pictures of inputs; None where the medium draws none, or inputs are pictures themselves."""
    medium = medium_of(preparation.kind)
    if medium.shows_itself or not len(inputs) or medium.drawn(inputs[:1][0].cpu().numpy(), preparation) is None:
        return None
    return DrawnInputs(inputs, preparation)
