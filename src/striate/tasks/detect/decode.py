"""From what a detector says of positions to detections: the highest scores, of each object once."""

from __future__ import annotations

import torch
from torch.nn import functional

from striate.data.annotations.boxes import CLASS
from striate.tasks.detect.head import CELL
from striate.tasks.detect.overlap import suppressed

_SCORED = 0.01
"""Positions with a lower score are no detections."""
_BEFORE, MOST = 1000, 100
"""So many positions and classes of an image, with the highest scores, go into suppression; so many at most come out."""
_SUPPRESSED = 0.6
"""IoU from which on two detections of a class are of one object."""


@torch.no_grad()
def detections(
    outputs: torch.Tensor, count: int, size: tuple[int, int], *, most: int = MOST, positions: bool = False
) -> torch.Tensor:
    """(N, `most`, 6) float32 by falling score, from outputs (N, P, K + 7) for `count` classes K in images of (height,
    width) `size`: edges in pixels, class, score; class −1 where there are no more. `positions`: a seventh column says
    which of the P each comes from."""
    scores = outputs[..., :count].float().sigmoid().flatten(1)
    values, places = scores.topk(min(max(_BEFORE, 3 * most), scores.shape[1]), dim=1)
    # Equal scores in the order of their positions, whatever made them come first.
    order = torch.argsort(places, 1)
    values, places = values.gather(1, order), places.gather(1, order)
    values, order = values.sort(dim=1, descending=True, stable=True)
    places = places.gather(1, order)
    longest = max(1, int((values >= _SCORED).sum(1).max())) if len(values) else 1
    values, places = values[:, :longest], places[:, :longest]
    numbers = places % count
    boxes = outputs[..., count : count + CELL].float()
    boxes = boxes.gather(1, (places // count)[..., None].expand(-1, -1, 4))
    kept = suppressed(boxes, numbers, _SUPPRESSED) & (values >= _SCORED)
    limits = torch.tensor([*size[::-1], *size[::-1]], dtype=boxes.dtype, device=boxes.device)
    columns = [numbers, values, *([places // count] if positions else [])]
    rows = torch.cat([torch.minimum(boxes.clamp(min=0), limits), *(column[..., None] for column in columns)], 2)
    rows = torch.where(kept[..., None], rows, _nothing(rows))
    first = torch.sort((~kept).byte(), dim=1, stable=True).indices[:, :most]
    rows = rows.gather(1, first[..., None].expand(-1, -1, rows.shape[2]))
    return functional.pad(rows, (0, 0, 0, most - rows.shape[1])) + _filling(rows, most)


def _nothing(rows: torch.Tensor) -> torch.Tensor:
    """A row that is no detection."""
    empty = torch.zeros(rows.shape[-1], dtype=rows.dtype, device=rows.device)
    empty[CLASS] = -1
    return empty


def _filling(rows: torch.Tensor, count: int) -> torch.Tensor:
    """(N, count, …) zeros, with class −1 behind the rows that there are."""
    filling = torch.zeros(len(rows), count, rows.shape[2], dtype=rows.dtype, device=rows.device)
    filling[:, rows.shape[1] :, CLASS] = -1
    return filling
