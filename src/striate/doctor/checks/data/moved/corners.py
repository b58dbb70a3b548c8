"""Boxes whose corners change sides when their image is flipped: from then on they are less than nothing wide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from striate.observe.tensors import tensors_in

_CORNERS, _SAME = 4, 1e-5
_IN_ORDER = 0.8
"""Share of the samples: of a few, all draws may be mirrored."""


def corners_exchanged(drawn: Sequence[Sequence[Any]], known: Sequence[Sequence[Any]]) -> int:
    """In how many draws of a sample, of several each, boxes (n, …, x1, y1, x2, y2) have a right edge left of the left
    one, or a lower one above the upper one, that have it right in another draw. Four columns are no box where most of
    the `known` samples do not have them in order in any draw: they may be two points."""
    samples, others = ([[_fours(draw) for draw in draws] for draws in asked] for asked in (drawn, known))
    places = [
        place
        for place in (samples[0][0] if samples else ())
        if sum(any(place in draw and bool((_sizes(draw[place]) > 0).all()) for draw in draws) for draws in others)
        >= _IN_ORDER * len(others)
    ]
    return sum(
        any(
            place in one and place in other and _exchanged(one[place], other[place])
            for one in draws
            for place in places
        )
        for draws in samples
        for other in draws
    )


def _exchanged(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether both edges of an axis are moved, so that boxes are as wide as before and the other way round; of a center
    and a size, only the one is moved."""
    if one.shape != other.shape:
        return False
    before, after, moved = _sizes(one), _sizes(other), (other - one).abs().amax(0) > _SAME
    return bool((before > 0).all()) and any(
        bool(moved[[axis, axis + 2]].all())
        and torch.allclose(after[:, axis], -before[:, axis], atol=_SAME)
        and torch.allclose(after[:, 1 - axis], before[:, 1 - axis], atol=_SAME)
        for axis in (0, 1)
    )


def _sizes(corners: torch.Tensor) -> torch.Tensor:
    return corners[:, 2:] - corners[:, :2]


def _fours(draw: Any) -> dict[tuple[int, int], torch.Tensor]:
    """What may be the corners of boxes in a draw, by table and first column: four columns of fractions of a few, also
    of one row of them."""
    found = [
        t.reshape(1, -1) if t.ndim == 1 else t for t in tensors_in(draw) if t.is_floating_point() and t.ndim in (1, 2)
    ]
    return {
        (number, place): table[:, place : place + _CORNERS].detach().cpu()
        for number, table in enumerate(found)
        if _CORNERS <= table.shape[1] <= 2 * _CORNERS and len(table)
        for place in range(table.shape[1] - _CORNERS + 1)
    }
