"""Neocognitron. Fukushima, "Neocognitron: a self-organizing neural network model for a mechanism of pattern recognition
unaffected by shift in position", Biological Cybernetics 36, 1980.

New: what all convolutional networks have since: planes of cells with shared connections that look for a feature
everywhere (S), layers that blur where it was (C), and one such pair after the other. It learns without any gradient: by
competition, and here, in the last layer, by labeled winner-take-all (Fukushima, "Neocognitron for handwritten digit
recognition", Neurocomputing 51, 2003, from which the contrast cells are too; 98.6 % on the digits of ETL-1).
With 16, 32, and 50 planes a class: 798,148 numbers are learned on 28×28 images of 10 classes.
"""

from __future__ import annotations

import torch
from torch import nn

from striate.layers.neocognitron import CCell, ContrastCells, SCell
from striate.models.learning_rule import LearningRule
from striate.models.rules.neocognitron import compete, recruit
from striate.models.zoo.image_size import check_image

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
            why="times the strength of each layer; answers follow from the ratio of connections, not from their size",
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

    Raises ModelError for inputs that are no images.
    """
    check_image("neocognitron", input_shape)
    return Neocognitron(input_shape, outputs, first, second, planes)


def _blur(size: list[int]) -> CCell:
    return CCell(5, stride=2, padding=2, alpha=0.1) if min(size) >= SMALL else CCell(3, padding=1, alpha=0.1)


def _blurred(size: list[int]) -> list[int]:
    return [-(-side // 2) for side in size] if min(size) >= SMALL else size
