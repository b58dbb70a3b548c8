"""Learning without a teacher: S-cells compete, and each winner makes its whole plane more like what it saw.
Learning with a teacher: planes of cells belong to classes, and a class that is not recognized recruits another.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from striate.layers.neocognitron import SCell


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


@torch.no_grad()
def recruit(
    cells: SCell, inputs_NCHW: torch.Tensor, targets: torch.Tensor, strength: float, classes: int, selectivity: float
) -> int:
    """Labeled winner-take-all for cells that see the whole map; returns how many samples were not recognized.

    The planes are `classes` groups of equal size, one a class. Sample after sample: the plane with the largest answer
    learns the sample if it is of its class. If it is of another, or no plane answers, the class recruits its first
    plane that has learned nothing yet; where none is left, its own plane that is most like the sample learns it.
    `selectivity` while learning is above that of recognition, so that planes are recruited before samples are mistaken
    (Fukushima and Tanigawa 1996). a learns by `reinforce` with q = `strength`; b follows as √(Σ a² / c), with which the
    answer is that of the cosine between the sample and the sum of what was learned.
    Source: Fukushima, "Neocognitron for handwritten digit recognition", Neurocomputing 51, 2003: layer U_S4.
    """
    group = cells.out_channels // classes
    unknown = 0
    for x, right in zip(inputs_NCHW.split(1), targets.tolist(), strict=True):
        answers = cells.answers(x, selectivity).flatten()
        winner = int(answers.argmax())
        # A plane that has learned nothing answers a little to anything, and knows nothing.
        known = bool(answers[winner] > 0) and bool(cells.inhibition[winner] > 0)
        if not known or winner // group != right:
            unknown += 1
            winner = _of_class(cells, x, slice(right * group, (right + 1) * group))
        reinforce(cells, x, [Seed(winner, 0, 0)], strength)
        cells.inhibition[winner] = (cells.weight[winner].square() / cells.window[0]).sum().sqrt()
    return unknown


def _of_class(cells: SCell, x: torch.Tensor, own: slice) -> int:
    """The first plane of the class that has learned nothing, else the one that is most like the sample."""
    free = (cells.inhibition[own].flatten() == 0).nonzero()
    place = int(free[0] if len(free) else cells(x).flatten()[own].argmax())
    return int(own.start) + place
