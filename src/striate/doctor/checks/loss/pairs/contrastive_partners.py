"""Views that a contrastive loss pairs as views of one sample, compared with the views that really belong together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.pairs import input_distances, inputs_embedded
from striate.doctor.evidence.token_targets import class_losses

RIGHT, WRONG = 0.65, 0.55
"""Share of comparisons in which an input is nearer to its partner than to others: at least RIGHT for right pairs,
whatever the augmentation; at most WRONG by chance."""
_FEWEST = 16
_OTHERS = 7
"""Columns with which each row's partner is compared."""


class PartnerShares(NamedTuple):
    """How often inputs are nearer to the input of their partner than to other inputs, as shares of comparisons."""

    by_loss: float
    """With the partners that the loss asks for."""
    reordered: float
    """With the best of the usual orders of partners; 0 where there is none."""
    rows: int
    """Number of rows of scores."""


def nearest_partners(evidence: Evidence) -> PartnerShares | None:
    """The shares of the first cross entropy that scores all pairs of views; None where there is none. Raises NoEvidence
    where the embedded inputs are unknown."""
    scores = [call for call in class_losses(evidence) if scores_all_pairs(call.input, call.target)]
    steps = inputs_embedded(evidence) if scores else []
    for call in scores:
        target, size = call.target.detach().cpu().long(), len(call.target)
        pairs = [pair for inputs in steps if (pair := _rows_and_columns(inputs, size)) is not None]
        if pairs:
            same = pairs[0][0] is pairs[0][1]
            by_loss, *others = (_nearer(pairs, partners) for partners in (target, *_orders(size, same=same)))
            return PartnerShares(by_loss, max(others, default=0.0), size)
    return None


def _rows_and_columns(inputs: list[torch.Tensor], size: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The inputs of the rows and of the columns of `size` x `size` scores: all inputs for both, or those of one call
    and of another; None where their number fits neither."""
    if len({x.shape[1:] for x in inputs}) != 1:
        return None
    if sum(map(len, inputs)) == size:
        together = torch.cat(inputs)
        return together, together
    return (inputs[0], inputs[1]) if [len(x) for x in inputs] == [size, size] else None


def scores_all_pairs(scores: torch.Tensor, target: torch.Tensor) -> bool:
    """Whether a cross entropy gets scores (N, N) of all pairs of samples, and asks for a partner of each sample."""
    if target.ndim != 1 or target.is_floating_point() or len(target) < _FEWEST:
        return False
    square = scores.shape == (len(target), len(target))
    return square and int(target.min()) >= 0 and len(target.unique()) > len(target) / 2


def _orders(size: int, *, same: bool) -> Iterator[torch.Tensor]:
    """The usual orders of partners: the same place in the other half, or neighbors; in two sets, the same row."""
    numbers = torch.arange(size)
    if not same:
        yield numbers
    elif size % 2 == 0:
        yield numbers.roll(size // 2)
        yield numbers ^ 1


def _nearer(pairs: list[tuple[torch.Tensor, torch.Tensor]], partners: torch.Tensor) -> float:
    """The share of comparisons in which a row is nearer to its partner than to another column."""
    wins = []
    for rows, columns in pairs:
        own = input_distances(rows, columns[partners])
        others = (input_distances(rows, columns[partners.roll(2 * number)]) for number in range(1, _OTHERS + 1))
        wins += [(own < other).double().mean() for other in others]
    return float(torch.stack(wins).mean())
