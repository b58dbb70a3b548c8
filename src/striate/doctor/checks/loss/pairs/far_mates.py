"""Views that a contrastive loss takes for those of one sample, beside those that are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.pairs import input_distances, inputs_embedded
from striate.doctor.evidence.token_targets import class_losses

RIGHT, WRONG = 0.65, 0.55
"""How often mates are nearer to each other than other inputs are: where they are put together right, at least, however
they were moved; and by chance."""
_FEWEST = 16
_OTHERS = 7
"""Rows that each is compared with."""


class Mates(NamedTuple):
    """How often inputs are nearer to those of the view that the loss asks for than to others, how often they are with
    views put together in another order, and how many rows of scores there are."""

    asked: float
    best: float
    rows: int


def nearest_mates(evidence: Evidence) -> Mates | None:
    """Of scores of each view with each, in a cross entropy; None where there are none. Raises NoEvidence where
    embeddings are not seen."""
    scores = [call for call in class_losses(evidence) if of_each_with_each(call.input, call.target)]
    steps = inputs_embedded(evidence) if scores else []
    for call in scores:
        target, size = call.target.detach().cpu().long(), len(call.target)
        pairs = [pair for inputs in steps if (pair := _rows_and_columns(inputs, size)) is not None]
        if pairs:
            same = pairs[0][0] is pairs[0][1]
            asked, *others = (_nearer(pairs, mates) for mates in (target, *_orders(size, same=same)))
            return Mates(asked, max(others, default=0.0), size)
    return None


def _rows_and_columns(inputs: list[torch.Tensor], size: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The inputs that rows and columns of so many scores stand for: all of them, or those of one call and another."""
    if len({x.shape[1:] for x in inputs}) != 1:
        return None
    if sum(map(len, inputs)) == size:
        together = torch.cat(inputs)
        return together, together
    return (inputs[0], inputs[1]) if [len(x) for x in inputs] == [size, size] else None


def of_each_with_each(scores: torch.Tensor, target: torch.Tensor) -> bool:
    """Whether a cross entropy asks, of scores of samples with each other, for a partner of each."""
    if target.ndim != 1 or target.is_floating_point() or len(target) < _FEWEST:
        return False
    square = scores.shape == (len(target), len(target))
    return square and int(target.min()) >= 0 and len(target.unique()) > len(target) / 2


def _orders(size: int, *, same: bool) -> Iterator[torch.Tensor]:
    """Usual places of the mates: in the other half, or beside; of two sets, in the same row."""
    numbers = torch.arange(size)
    if not same:
        yield numbers
    elif size % 2 == 0:
        yield numbers.roll(size // 2)
        yield numbers ^ 1


def _nearer(pairs: list[tuple[torch.Tensor, torch.Tensor]], mates: torch.Tensor) -> float:
    """The share of comparisons in which a row is nearer to its mate than to another column."""
    wins = []
    for rows, columns in pairs:
        own = input_distances(rows, columns[mates])
        others = (input_distances(rows, columns[mates.roll(2 * number)]) for number in range(1, _OTHERS + 1))
        wins += [(own < other).double().mean() for other in others]
    return float(torch.stack(wins).mean())
