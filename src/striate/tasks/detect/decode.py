"""Decodes a detector's outputs to detections: the highest scores, one detection for each object."""

from __future__ import annotations

import torch
from torch.nn import functional

from striate.data.annotations.boxes import CLASS
from striate.tasks.detect.head import parts_of
from striate.tasks.detect.overlap import nms_mask
from striate.tasks.detect.rotated import boxes_of

SCORED = 0.01
"""Positions with a lower score are dropped."""
CANDIDATES, MOST = 1000, 100
"""Number of (position, class) pairs of an image, with the highest scores, that go into non-maximum suppression; and the
largest number that comes out, unless training images have more objects."""
_ROOM = 1.5
"""Largest number of detections of an image, as a multiple of the objects of the fullest training image."""
SUPPRESSED = 0.6
"""IoU from which two detections of a class belong to one object."""
SUPPRESSED_ROTATED = 0.3
"""The same for rotated boxes, which fit closely around their objects: boxes of two objects hardly overlap, and boxes of
one object overlap less where their angles differ."""


def room_for(objects: int) -> int:
    """The largest number of detections of an image, a multiple of 100, for this number of objects in the fullest
    training image."""
    return MOST * max(1, -(-int(_ROOM * objects) // MOST))


def candidates_for(most: int) -> int:
    """The number of (position, class) pairs that go into suppression where up to `most` may come out."""
    return max(CANDIDATES, 3 * most)


@torch.no_grad()
def detections(
    outputs: torch.Tensor,
    count: int,
    size: tuple[int, int],
    *,
    rotated: bool = False,
    most: int = MOST,
) -> torch.Tensor:
    """(N, `most`, 6) float32 by falling score, from outputs (N, P, K + 7) for `count` classes K in images of (height,
    width) `size`: edges in pixels, class, score; class −1 for padding. `rotated` boxes are (N, `most`, 7): the angle
    comes last, and edges may lie beyond the image."""
    scores = outputs[..., :count].float().sigmoid().flatten(1)
    values, places = scores.topk(min(candidates_for(most), scores.shape[1]), dim=1)
    # Equal scores keep the order of their positions, also where topk does not.
    order = torch.argsort(places, 1)
    values, places = values.gather(1, order), places.gather(1, order)
    values, order = values.sort(dim=1, descending=True, stable=True)
    places = places.gather(1, order)
    longest = max(1, int((values >= SCORED).sum(1).max())) if len(values) else 1
    values, places = values[:, :longest], places[:, :longest]
    numbers = places % count
    boxes = parts_of(outputs, count, rotated=rotated)[1].float()
    boxes = boxes.gather(1, (places // count)[..., None].expand(-1, -1, boxes.shape[2]))
    boxes = boxes_of(boxes) if rotated else boxes
    kept = nms_mask(boxes, numbers, SUPPRESSED_ROTATED if rotated else SUPPRESSED) & (values >= SCORED)
    columns = [column[..., None] for column in (numbers, values)]
    columns += [boxes[..., 4:]] if rotated else []
    edges = boxes[..., :4]
    if not rotated:
        limits = torch.tensor([*size[::-1], *size[::-1]], dtype=boxes.dtype, device=boxes.device)
        edges = torch.minimum(edges.clamp(min=0), limits)
    rows = torch.cat([edges, *columns], 2)
    rows = torch.where(kept[..., None], rows, _nothing(rows))
    first = torch.sort((~kept).byte(), dim=1, stable=True).indices[:, :most]
    rows = rows.gather(1, first[..., None].expand(-1, -1, rows.shape[2]))
    return functional.pad(rows, (0, 0, 0, most - rows.shape[1])) + _filling(rows, most)


def _nothing(rows: torch.Tensor) -> torch.Tensor:
    """A row that is not a detection."""
    empty = torch.zeros(rows.shape[-1], dtype=rows.dtype, device=rows.device)
    empty[CLASS] = -1
    return empty


def _filling(rows: torch.Tensor, count: int) -> torch.Tensor:
    """(N, count, …) padding: zeros, with class −1."""
    filling = torch.zeros(len(rows), count, rows.shape[2], dtype=rows.dtype, device=rows.device)
    filling[:, rows.shape[1] :, CLASS] = -1
    return filling
