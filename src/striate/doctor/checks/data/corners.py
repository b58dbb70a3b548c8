"""Boxes whose corners change sides when their image is flipped: from then on they are less than nothing wide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from striate.observe.tensors import tensors_in

_CORNERS = 4


def corners_exchanged(drawn: Sequence[Sequence[Any]]) -> int:
    """In how many draws of a sample, of several each, boxes (n, …, x1, y1, x2, y2) have a right edge left of the left
    one, or a lower one above the upper one, that have it right in another draw."""
    return sum(any(_exchanged(one, other) for one in draws) for draws in drawn for other in draws)


def _exchanged(one: Any, other: Any) -> bool:
    for a, b in zip(_rows(one), _rows(other), strict=False):
        for place in range(a.shape[1] - _CORNERS + 1) if a.shape == b.shape else ():
            before, after = (t[:, place + 2 : place + 4] - t[:, place : place + 2] for t in (a, b))
            if not bool((before > 0).all()):
                continue
            for turned in (0, 1):
                same = torch.allclose(after[:, 1 - turned], before[:, 1 - turned], atol=1e-5)
                if same and torch.allclose(after[:, turned], -before[:, turned], atol=1e-5):
                    return True
    return False


def _rows(draw: Any) -> list[torch.Tensor]:
    """What may be boxes in a draw: tables of fractions with a few columns, or one row of them."""
    found = [
        t.reshape(1, -1) if t.ndim == 1 else t for t in tensors_in(draw) if t.is_floating_point() and t.ndim in (1, 2)
    ]
    return [t.detach().cpu() for t in found if _CORNERS <= t.shape[1] <= 2 * _CORNERS and len(t)]
