"""What a page draws over a picture: the objects and points of a prediction, and maps of the network's outputs."""

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
    """The outline of an object."""

    corners: tuple[tuple[float, float], ...]
    """Its corners (x, y)."""
    kind: int
    """Position of its class among the names."""
    probability: float
    """Its probability, 0 to 1."""


@dataclass(frozen=True)
class Spot:
    """A point of a prediction."""

    x: float
    """To the right."""
    y: float
    """Down."""
    kind: int
    """Position of its name among the names."""
    probability: float
    """Its probability, 0 to 1."""


@dataclass(frozen=True, eq=False)
class Marks:
    """All that a prediction locates in a picture, in pixels from the corner of its first pixel."""

    size: tuple[int, int]
    """(height, width) of the picture."""
    names: tuple[str, ...]
    """Names of the kinds."""
    colors: tuple[Color, ...]
    """Color of each kind."""
    outlines: tuple[Outline, ...] = ()
    """The outlines of objects, also of those with a low probability."""
    spots: tuple[Spot, ...] = ()
    """The points, also those with a low probability."""
    lines: tuple[tuple[int, int], ...] = ()
    """Pairs of positions in `spots` that are joined by a line."""
    areas: NDArray[np.uint8] | None = None
    """(height, width) uint8, the kind of each pixel; None where there are none."""
    threshold: float = 0.0
    """The probability from which an outline or a spot is a prediction."""

    def to_json(self) -> dict[str, Any]:
        """The record, with the share of each kind in place of the areas."""
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
    """Colors of matplotlib as bytes."""
    from matplotlib.colors import to_rgb

    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in map(to_rgb, drawn))


@dataclass(frozen=True, eq=False)
class PositionMap:
    """One map of a network's outputs, position by position."""

    name: str
    """Name of the map."""
    what: str
    """What its values are, in a word or two."""
    names: tuple[str, ...]
    """What each of its K channels stands for."""
    values: torch.Tensor
    """(K, rows, columns), 0 to 1."""
    boxes: torch.Tensor | None = None
    """(rows, columns, 4) edges in pixels of the input of the box that each position predicts; None where it predicts
    none."""
