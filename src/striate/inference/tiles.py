"""A large picture in tiles, each read with enough of its surroundings to give the outputs of the whole picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from striate.account.summarize import observe
from striate.inference.any_size import MULTIPLE

Box = tuple[int, int, int, int]
"""Top, left, height, width in pixels."""


@dataclass(frozen=True)
class Tile:
    """A part of a picture whose outputs are computed at once."""

    core: Box
    """The part that its outputs are used for."""
    read: Box
    """The part that is read: `core` with what its outputs depend on."""

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of `core` within `read`."""
        (top, left, height, width), (above, before, _, _) = self.core, self.read
        return slice(top - above, top - above + height), slice(left - before, left - before + width)

    def missing_before(self, size: tuple[int, int], reach: Reach, mirrored: bool, upside_down: bool) -> tuple[int, int]:
        """How many rows and columns have to be added before the part so that it begins at a multiple of the step in the
        picture of (height, width) `size` that is `mirrored` from left to right, or `upside_down`."""
        rows, columns = (size[axis] - self.read[axis] - self.read[axis + 2] for axis in (0, 1))
        return rows % reach.step if upside_down else 0, columns % reach.step if mirrored else 0


@dataclass(frozen=True)
class Reach:
    """How far from a position an output can depend on the input."""

    halo: int
    """Pixels in each direction, a multiple of `step`."""
    step: int
    """Parts begin at multiples of it, so that strides fall on the same pixels as in the whole picture."""
    everywhere: tuple[str, ...] = ()
    """Names of layers that see the whole picture, whatever the halo."""


def padded_before(
    network: Callable[[torch.Tensor], torch.Tensor], before: tuple[int, int], x: torch.Tensor
) -> torch.Tensor:
    """Outputs for `x` (N, C, H, W), computed with further rows and columns `before` it."""
    rows, columns = before
    if not (rows or columns):
        return network(x)
    return network(functional.pad(x, (columns, 0, rows, 0), mode="replicate"))[..., rows:, columns:]


def reach_of(module: nn.Module, input_shape: tuple[int, ...]) -> Reach:
    """The reach of a network for inputs (C, H, W), from its theoretical receptive field."""
    rows = observe(module, input_shape).rows
    jumps = [math.ceil(jump) for row in rows for jump in row.jump if jump >= 1]
    step = math.lcm(MULTIPLE, *set(jumps))
    field = max((side for row in rows for side in row.receptive_field if not row.sees_all), default=1)
    # The middle of an output's field may lie up to a stride beside the output.
    halo = step * math.ceil((field / 2 + max(jumps, default=1)) / step)
    return Reach(halo, step, tuple(row.name for row in rows if row.sees_all))


def tiles(size: tuple[int, int], side: int, reach: Reach) -> Iterator[Tile]:
    """Tiles of about `side` × `side` pixels, row by row, that cover a picture of (height, width) `size`."""
    side = reach.step * math.ceil(side / reach.step)
    for top in range(0, size[0], side):
        for left in range(0, size[1], side):
            height, width = min(side, size[0] - top), min(side, size[1] - left)
            above, before = max(0, top - reach.halo), max(0, left - reach.halo)
            below, after = min(size[0], top + side + reach.halo), min(size[1], left + side + reach.halo)
            yield Tile((top, left, height, width), (above, before, below - above, after - before))
