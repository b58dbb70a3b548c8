"""What a page draws over a picture: all that a task finds in it, and what each position of its outputs says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


@dataclass(frozen=True)
class Outline:
    """An object: the `corners` of its outline (x, y), its `kind` and `probability`."""

    corners: tuple[tuple[float, float], ...]
    kind: int
    probability: float


@dataclass(frozen=True)
class Spot:
    """A point at (x, y), with its `kind` and `probability`."""

    x: float
    y: float
    kind: int
    probability: float


@dataclass(frozen=True, eq=False)
class Marks:
    """All that is found in a picture of (height, width) `size`, in its pixels from the corner of the first one.

    `names`, `colors`: of each kind
    `outlines`, `spots`: also those of a low probability; `threshold` is the one from which on they are predictions
    `lines`: pairs of numbers of spots that are joined
    `areas`: (height, width) uint8, the kind of each pixel; None where there are none
    """

    size: tuple[int, int]
    names: tuple[str, ...]
    colors: tuple[Color, ...]
    outlines: tuple[Outline, ...] = ()
    spots: tuple[Spot, ...] = ()
    lines: tuple[tuple[int, int], ...] = ()
    areas: NDArray[np.uint8] | None = None
    threshold: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The record without its areas, of which there is the share of each kind."""
        shares = None
        if self.areas is not None:
            counts = np.bincount(self.areas.reshape(-1), minlength=len(self.names))
            shares = (counts / self.areas.size).tolist()
        return {
            "height": self.size[0],
            "width": self.size[1],
            "names": list(self.names),
            "colors": [list(color) for color in self.colors],
            "outlines": [vars(one) for one in self.outlines],
            "spots": [vars(one) for one in self.spots],
            "lines": [list(pair) for pair in self.lines],
            "shares": shares,
            "threshold": self.threshold,
        }


def as_colors(drawn: Sequence[Any]) -> tuple[Color, ...]:
    """Colors as matplotlib knows them, in bytes."""
    from matplotlib.colors import to_rgb

    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in map(to_rgb, drawn))


@dataclass(frozen=True, eq=False)
class PositionMap:
    """What the positions of one map of outputs say.

    `name`: which map it is; `what`: what its numbers are, in a word or two
    `values`: (K, rows, columns), 0 to 1, one map for each of the `names`
    `boxes`: (rows, columns, 4) the edges in pixels of the input that each position predicts, where it does
    """

    name: str
    what: str
    names: tuple[str, ...]
    values: torch.Tensor
    boxes: torch.Tensor | None = None
