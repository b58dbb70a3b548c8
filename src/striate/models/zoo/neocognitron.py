"""Neocognitron. Fukushima, "Neocognitron: a self-organizing neural network model for a mechanism of pattern recognition
unaffected by shift in position", Biological Cybernetics 36, 1980.

New: what all convolutional networks have had since: planes of cells with shared connections that detect a feature
everywhere (S), layers that blur its position (C), and several such pairs in sequence. It learns without gradients: by
competition, and here, in the last layer, by labeled winner-take-all (Fukushima, "Neocognitron for handwritten digit
recognition", Neurocomputing 51, 2003, the source of the contrast cells too; 98.6 % on the digits of ETL-1).
With 16, 32, and 50 planes for each class, 798,148 numbers are learned on 28×28 images of 10 classes.
Without labels, S-cells compete, and the plane of each winner learns the winner's input. With labels, planes belong to
classes, and the class of a sample that is not recognized recruits another plane.
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
    """A cell that was chosen to learn: its plane and its position in the map."""

    plane: int
    row: int
    column: int


@torch.no_grad()
def compete(cells: SCell, inputs_NCHW: torch.Tensor, strength: float, size: int) -> None:
    """One step of self-organization for each sample in turn: find the seed cells, and let their planes learn.

    `strength` is q of `reinforce`, `size` the side of an S-column.
    Source: Fukushima, "Neocognitron", Biological Cybernetics 36, 1980, section 3.
    """
    for x in inputs_NCHW.split(1):
        reinforce(cells, x, seed_cells(cells(x)[0], size), strength)


def seed_cells(responses_KHW: torch.Tensor, size: int) -> list[Seed]:
    """The seed cells, at most one for each plane.

    An S-column consists of the cells of all planes in an area of `size` × `size` positions; areas overlap by about
    half. The cell with the largest response in a column is a candidate, if that is above zero; of the candidates in a
    plane, the one with the largest response is chosen. As a column has one candidate, planes learn different features.
    """
    largest, planes = responses_KHW.max(0)
    height, width = largest.shape
    area = (min(size, height), min(size, width))
    steps = (area[0] // 2 + 1, area[1] // 2 + 1)
    # Rounded up, so that the last positions are in a column too.
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
    """Δa(ν) = q c(ν) u(n + ν) and Δb = q v(n), with n the position of the seed cell. All cells of a plane share a and
    b, so that the plane learns the input of its seed cell.

    As b sums the outputs of the V-cell, the response of a plane to x depends on the mean cosine between x and the
    patterns that it has learned."""
    pad = cells.padding
    padded = functional.pad(x_1CHW, (pad, pad, pad, pad))[0]
    inhibition = cells.v_cells(x_1CHW)[0, 0]
    height, width = cells.kernel_size
    for seed in seeds:
        seen = padded[:, seed.row : seed.row + height, seed.column : seed.column + width]
        cells.weight[seed.plane] += strength * cells.window[0] * seen
        cells.inhibition[seed.plane] += strength * inhibition[seed.row, seed.column]


@torch.no_grad()
def recruit(
    cells: SCell, inputs_NCHW: torch.Tensor, targets: torch.Tensor, strength: float, classes: int, selectivity: float
) -> int:
    """Labeled winner-take-all for cells whose window is the full map; returns how many samples were not recognized.

    The planes are `classes` groups of equal size, one for each class. For each sample, the plane with the largest
    response learns the sample if both have the same class. Otherwise, or if no plane responds, the class of the sample
    recruits its first plane that has learned nothing yet; if there is none, its plane with the largest response learns.
    `selectivity` is higher while learning than in recognition, so that planes are recruited before samples are
    misclassified (Fukushima and Tanigawa 1996). a learns by `reinforce` with q = `strength`; b is set to √(Σ a² / c),
    so that the response depends on the cosine between the sample and the sum of the learned samples. Source: Fukushima,
    "Neocognitron for handwritten digit recognition", Neurocomputing 51, 2003: layer U_S4."""
    group = cells.out_channels // classes
    unknown = 0
    for x, right in zip(inputs_NCHW.split(1), targets.tolist(), strict=True):
        responses = cells.responses(x, selectivity).flatten()
        winner = int(responses.argmax())
        # A plane that has learned nothing responds a little to anything.
        known = bool(responses[winner] > 0) and bool(cells.inhibition[winner] > 0)
        if not known or winner // group != right:
            unknown += 1
            winner = _of_class(cells, x, slice(right * group, (right + 1) * group))
        reinforce(cells, x, [Seed(winner, 0, 0)], strength)
        cells.inhibition[winner] = (cells.weight[winner].square() / cells.window[0]).sum().sqrt()
    return unknown


def _of_class(cells: SCell, x: torch.Tensor, own: slice) -> int:
    """The first plane of the class that has learned nothing, else the one with the largest response."""
    free = (cells.inhibition[own].flatten() == 0).nonzero()
    place = int(free[0] if len(free) else cells(x).flatten()[own].argmax())
    return int(own.start) + place


COLUMNS = (7, 5)
"""Sides of the S-columns of the first and the second layer."""
STRENGTHS = (16.0, 16.0, 1e4)
"""q of each layer: the factor of a seed cell's input in what its plane learns at a rate of 1. In the last layer, it is
so large that a plane responds alike after one sample and after many."""
STAGES = (0.25, 0.5)
"""Shares of all steps after which the second layer learns instead of the first, and the last instead of the second: a
layer learns after those before it have finished."""
LEARNING_SELECTIVITY = 6.0
"""Selectivity of the last layer while it learns: a plane responds to cosines above 6 / 7."""
SMALL = 12
"""Side of the smallest map that a blur halves: in smaller maps, too little detail would be left."""
GAIN = 25.0
"""Factor from responses between 0 and 1 to logits. Near 25, the cross-entropy on held-out samples of mnist5k is lowest.
"""


class Neocognitron(nn.Module):
    """Contrast cells, then S-cells and C-cells twice, then S-cells whose window is the full map, `planes` for each
    class.

    The selectivities of the first two are those of 1980: 4 and 1.5. A blur halves the map, rounding up; a map smaller
    than 12×12 keeps its size."""

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
        responses = self.s3(self.c2(self.s2(self.c1(self.s1(self.contrast(x))))))
        # The last C-cells: a class has the response of its strongest plane.
        strongest: torch.Tensor = responses.flatten(1).unflatten(1, (self.outputs, -1)).amax(2)
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
