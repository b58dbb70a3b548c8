"""Learning with a teacher: planes of cells belong to classes, and a class that is not recognized recruits another."""

from __future__ import annotations

import torch

from striate.layers.s_cell import SCell
from striate.models.rules.competition import Seed, reinforce


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
