"""From what an instance detector says of positions to detections with their masks; and from these to pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.annotations.boxes import CLASS
from striate.tasks.detect.average_precision import SCORE
from striate.tasks.detect.decode import detections
from striate.tasks.instances.box_masks import COLUMNS, packed, pasted, unpacked
from striate.tasks.instances.head import mask_logits, parts_of

MASK = SCORE + 1
"""The first of the columns of a detection that hold its mask."""
WIDTH = MASK + COLUMNS
_INSIDE = 0.5
"""The share of a pixel from which on it is of the object."""
_AT_ONCE = 128


@torch.no_grad()
def instances(outputs: torch.Tensor, count: int, size: tuple[int, int], most: int) -> torch.Tensor:
    """(N, `most`, WIDTH) float32 by falling score: edges in pixels, class (−1: none), score, and the mask under the
    grid over the box (`box_masks`)."""
    parts = parts_of(outputs, count)
    rows = detections(parts.rows, count, size, most=most, positions=True)
    places = rows[..., MASK].long()
    masks = torch.zeros(*rows.shape[:2], COLUMNS, device=rows.device)
    longest = int((rows[..., CLASS] >= 0).sum(1).max()) if len(rows) else 0
    for image, found in enumerate(rows):
        for start in range(0, min(longest, int((found[:, CLASS] >= 0).sum())), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            weights = parts.weights[image, places[image, part]]
            logits = mask_logits(parts.features[image, None], weights[None], found[None, part, :4], size)
            masks[image, part] = packed(logits[0].sigmoid())
    masks *= rows[..., CLASS, None] >= 0
    return torch.cat([rows[..., :MASK], masks], 2)


def masks_of(
    found: NDArray[np.floating], size: tuple[int, int]
) -> Iterator[tuple[NDArray[np.float32], tuple[int, int]]]:
    """Of each detection (D, WIDTH), in pixels of a picture of (height, width) `size`: shares (h, w) and the first pixel
    (top, left)."""
    for row, shares in zip(found, unpacked(found[:, MASK:]), strict=True):
        yield pasted(shares, row, size)


def inside(part: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which pixels are of the object."""
    return part >= _INSIDE


def apart(found: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.int32]:
    """(height, width): for each pixel the number, from 1, of the detection (D, WIDTH) that it is of; where several are
    likely, of the likeliest."""
    numbers, best = np.zeros(size, np.int32), np.full(size, np.nextafter(np.float32(_INSIDE), np.float32(0)))
    for number, (part, (top, left)) in enumerate(masks_of(found, size), 1):
        at = np.s_[top : top + part.shape[0], left : left + part.shape[1]]
        better = part > best[at]
        numbers[at][better], best[at][better] = number, part[better]
    return numbers
