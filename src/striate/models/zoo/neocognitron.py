"""Neocognitron. Fukushima, "Neocognitron: a self-organizing neural network model for a mechanism of pattern recognition
unaffected by shift in position", Biological Cybernetics 36, 1980.

New: what all convolutional networks have since: planes of cells with shared connections that look for a feature
everywhere (S), layers that blur where it was (C), and one such pair after the other. It learns without any gradient: by
competition, and here, in the last layer, by labeled winner-take-all (Fukushima, "Neocognitron for handwritten digit
recognition", Neurocomputing 51, 2003, from which the contrast cells are too; 98.6 % on the digits of ETL-1).
With 16, 32, and 50 planes a class: 798,148 numbers are learned on 28×28 images of 10 classes.
Without labels, S-cells compete, and each winner makes its whole plane more like what it saw; with labels, planes of
cells belong to classes, and a class that is not recognized recruits another plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from striate.layers.neocognitron import CCell, ContrastCells, SCell
from striate.models.learning_rule import LearningRule
from striate.models.zoo.image_size import check_image


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


COLUMNS = (7, 5)
"""Sides of the S-columns of the first and the second layer."""
STRENGTHS = (16.0, 16.0, 1e4)
"""q of each layer: how much of what a seed cell saw is added at a rate of 1. The last layer's is so large that a plane
which has seen one sample answers like one that has seen many."""
STAGES = (0.25, 0.5)
"""Shares of all steps after which the second layer learns instead of the first, and the last instead of the second: a
layer begins when those before it have come to rest."""
LEARNING_SELECTIVITY = 6.0
"""Of the last layer while it learns: a plane answers to cosines above 6 / 7."""
SMALL = 12
"""Side of the map: below, a blur by halves would leave nothing to tell apart."""
GAIN = 25.0
"""Turns answers between 0 and 1 into logits; the largest stays the largest. Near 25 the cross-entropy on held-out
samples of mnist5k is lowest."""


class Neocognitron(nn.Module):
    """Contrast, then twice S-cells and C-cells, then S-cells that see everything, `planes` for each class.

    Selectivities of the first two are those of 1980: 4 and 1.5. A blur halves the map, rounding up, unless it is
    smaller than 12×12: then it keeps its size.
    """

    def __init__(self, input_shape: tuple[int, ...], outputs: int, first: int, second: int, planes: int) -> None:
        super().__init__()
        channels, *size = input_shape
        self.outputs = outputs
        self.contrast = ContrastCells()
        self.s1, self.c1 = SCell(2 * channels, first, 5, selectivity=4.0, padding=2), _blur(size)
        size = _blurred(size)
        self.s2, self.c2 = SCell(first, second, 5, selectivity=1.5, padding=2), _blur(size)
        self.s3 = SCell(second, outputs * planes, _blurred(size), selectivity=1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answers = self.s3(self.c2(self.s2(self.c1(self.s1(self.contrast(x))))))
        # The last C-cells: the strongest plane speaks for its class.
        strongest: torch.Tensor = answers.flatten(1).unflatten(1, (self.outputs, -1)).amax(2)
        return GAIN * strongest

    def learning_rule(self) -> LearningRule:
        """Competition, layer after layer, and a labeled last layer."""
        return LearningRule(
            "competition of S-cells, then labeled winner-take-all (Fukushima 1980, 2003)",
            rate=1.0,
            why="times the strength of each layer; outputs depend on the ratio of connections, not on their size",
            epochs=4,
            schedule="constant",
            only=True,
        )

    @torch.no_grad()
    def learn(self, inputs: torch.Tensor, targets: torch.Tensor, rate: float, progress: float) -> None:
        """One layer learns, which one says `progress`; those before it only answer."""
        maps = self.contrast(inputs)
        if progress < STAGES[0]:
            compete(self.s1, maps, rate * STRENGTHS[0], COLUMNS[0])
            return
        maps = self.c1(self.s1(maps))
        if progress < STAGES[1]:
            compete(self.s2, maps, rate * STRENGTHS[1], COLUMNS[1])
            return
        recruit(self.s3, self.c2(self.s2(maps)), targets, rate * STRENGTHS[2], self.outputs, LEARNING_SELECTIVITY)


def neocognitron(
    input_shape: tuple[int, ...], outputs: int, first: int = 16, second: int = 32, planes: int = 50
) -> nn.Module:
    """A Neocognitron for images (C, H, W): to (N, outputs). `first` and `second`: planes of the two layers that
    organize themselves; `planes`: of the last one, for each class.

    Raises ModelError for inputs that are not images.
    """
    check_image("neocognitron", input_shape)
    return Neocognitron(input_shape, outputs, first, second, planes)


def _blur(size: list[int]) -> CCell:
    return CCell(5, stride=2, padding=2, alpha=0.1) if min(size) >= SMALL else CCell(3, padding=1, alpha=0.1)


def _blurred(size: list[int]) -> list[int]:
    return [-(-side // 2) for side in size] if min(size) >= SMALL else size
