"""Boxes whose edges are exchanged when their image is flipped, so that their width or height is negative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch

from striate.doctor.checks.data.moved.left_behind import AUGMENTATION, FEWEST_LEFT, left_behind
from striate.doctor.evidence.clock import NoEvidence
from striate.observe.tensors import tensors_in
from striate.records import Finding
from striate.wording import several

_CORNERS, _SAME = 4, 1e-5
_IN_ORDER = 0.8
"""The least share of samples with ordered edges in some draw: all draws of a few samples may be mirrored."""


def left_of_corners(drawn: Sequence[Sequence[Any]], others: Callable[[], Sequence[Sequence[Any]]]) -> Finding | None:
    """A finding if edges of boxes are exchanged in some draws of samples; else None. `drawn`: several draws of each
    sample. `others` returns draws of validation, which show which columns are boxes; it may raise NoEvidence."""
    if _corners_exchanged(drawn, drawn) < FEWEST_LEFT:
        return None
    known = drawn
    with suppress(NoEvidence):
        known = others()
    count = _corners_exchanged(drawn, known)
    if count < FEWEST_LEFT:
        return None
    return left_behind(
        AUGMENTATION,
        f"in {several(count, 'draw')} of samples the right edge of each box is left of its left edge, or "
        "the lower edge above the upper one, but not in other draws of the same samples",
        f"{FEWEST_LEFT} draws with exchanged box edges, which are not exchanged in other draws of the same sample",
        "A flip also exchanges the edges of a box. Otherwise its width is negative, and no prediction overlaps it.",
        "exchange the edges when they are mirrored: `box[[0, 2]] = width - box[[2, 0]]`",
    )


def _corners_exchanged(drawn: Sequence[Sequence[Any]], known: Sequence[Sequence[Any]]) -> int:
    """The number of draws whose boxes (n, …, x1, y1, x2, y2) have a right edge left of the left one, or a lower edge
    above the upper one, but ordered edges in another draw of the same sample. Four columns are not a box if most of the
    `known` samples do not have them in order in any draw: they may be two points."""
    samples, others = ([[_possible_corners(draw) for draw in draws] for draws in read] for read in (drawn, known))
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
    """Whether both edges along an axis are moved, so that the size of boxes changes its sign. For a center and a size,
    only the center would move."""
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


def _possible_corners(draw: Any) -> dict[tuple[int, int], torch.Tensor]:
    """The possible corners of boxes in a draw, by number of the tensor and first column: four of a few floating-point
    columns."""
    found = [
        t.reshape(1, -1) if t.ndim == 1 else t for t in tensors_in(draw) if t.is_floating_point() and t.ndim in (1, 2)
    ]
    return {
        (number, place): table[:, place : place + _CORNERS].detach().cpu()
        for number, table in enumerate(found)
        if _CORNERS <= table.shape[1] <= 2 * _CORNERS and len(table)
        for place in range(table.shape[1] - _CORNERS + 1)
    }
