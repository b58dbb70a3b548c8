"""Learning without a teacher: S-cells compete, and each winner makes its whole plane more like what it saw."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from striate.layers.s_cell import SCell


@dataclass(frozen=True)
class Seed:
    """A cell that was chosen to learn: its plane and its place in the map."""

    plane: int
    row: int
    column: int


@torch.no_grad()
def compete(cells: SCell, inputs_NCHW: torch.Tensor, strength: float, size: int) -> None:
    """One step of self-organization for each sample in turn: find the seed cells, and reinforce what they saw.

    `strength` is q of `reinforce`, `size` the side of an S-column.
    Source: Fukushima, "Neocognitron", Biological Cybernetics 36, 1980, section 3.
    """
    for x in inputs_NCHW.split(1):
        reinforce(cells, x, seed_cells(cells(x)[0], size), strength)


def seed_cells(answers_KHW: torch.Tensor, size: int) -> list[Seed]:
    """The representatives of the planes, at most one each.

    An S-column is all cells, of all planes, in an area of `size` × `size` places; areas overlap by about half. The cell
    with the largest answer of a column is a candidate, if it answers at all; of candidates in one plane the largest is
    chosen. So no plane has two, and no column gives a cell to two planes: planes come to answer to different features.
    """
    largest, planes = answers_KHW.max(0)
    height, width = largest.shape
    area = (min(size, height), min(size, width))
    steps = (area[0] // 2 + 1, area[1] // 2 + 1)
    # Rounded up, so that the last places are in a column too.
    _, winners = functional.max_pool2d(largest[None, None], area, steps, ceil_mode=True, return_indices=True)
    places = winners.unique()
    places = places[largest.flatten()[places] > 0]
    order = largest.flatten()[places].argsort(descending=True, stable=True)
    seeds: dict[int, Seed] = {}
    for place in places[order].tolist():
        row, column = divmod(place, width)
        plane = int(planes[row, column])
        seeds.setdefault(plane, Seed(plane, row, column))
    return list(seeds.values())


def reinforce(cells: SCell, x_1CHW: torch.Tensor, seeds: list[Seed], strength: float) -> None:
    """Δa(ν) = q c(ν) u(n + ν) and Δb = q v(n), with n the place of the seed cell: all cells of a plane share a and b,
    so that the plane learns what one of its cells saw.

    b as the sum of what the V-cell said makes the answer of a plane to x that of the mean cosine between x and what it
    has learned.
    """
    pad = cells.padding
    padded = functional.pad(x_1CHW, (pad, pad, pad, pad))[0]
    said = cells.v_cells(x_1CHW)[0, 0]
    height, width = cells.kernel_size
    for seed in seeds:
        seen = padded[:, seed.row : seed.row + height, seed.column : seed.column + width]
        cells.weight[seed.plane] += strength * cells.window[0] * seen
        cells.inhibition[seed.plane] += strength * said[seed.row, seed.column]
