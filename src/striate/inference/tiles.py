"""A large picture in parts: each is predicted with so much around it that it gets what the whole would give it."""

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
    """Of the outputs for the part `read` of a picture, those for the part `core` of it are kept."""

    core: Box
    read: Box

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of `core` in `read`."""
        (top, left, height, width), (above, before, _, _) = self.core, self.read
        return slice(top - above, top - above + height), slice(left - before, left - before + width)

    def beside_mirrored(
        self, size: tuple[int, int], reach: Reach, mirrored: bool, upside_down: bool
    ) -> tuple[int, int]:
        """How many rows and columns are missing before the part, `mirrored` or `upside_down` in a picture of (height,
        width) `size`, for it to begin at a multiple of the step, too."""
        rows, columns = (size[axis] - self.read[axis] - self.read[axis + 2] for axis in (0, 1))
        return rows % reach.step if upside_down else 0, columns % reach.step if mirrored else 0


@dataclass(frozen=True)
class Reach:
    """How far from a position, in pixels, an output can depend on the input: `halo`, a multiple of `step`, at whose
    multiples parts must begin so that strides fall on the same pixels. `everywhere`: the names of layers that see the
    whole picture, whatever the halo."""

    halo: int
    step: int
    everywhere: tuple[str, ...] = ()


def beside(network: Callable[[torch.Tensor], torch.Tensor], before: tuple[int, int], x: torch.Tensor) -> torch.Tensor:
    """Outputs for `x` (N, C, H, W) with so many further rows and columns `before` it."""
    rows, columns = before
    if not (rows or columns):
        return network(x)
    return network(functional.pad(x, (columns, 0, rows, 0), mode="replicate"))[..., rows:, columns:]


def reach_of(module: nn.Module, input_shape: tuple[int, ...]) -> Reach:
    """Of a network for inputs (C, H, W), from its theoretical receptive field."""
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
