"""Decodes outputs for pixels to detections with masks, and masks to pixels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.annotations.boxes import CLASS, NO_OBJECT
from striate.tasks.detect.average_precision import SCORE
from striate.tasks.instances.box_masks import COLUMNS, gathered, packed, pasted, unpacked
from striate.tasks.instances.grouping import agreement, grouped, shares_inside

MASK = SCORE + 1
"""The first column of a detection's mask."""
WIDTH = MASK + COLUMNS
_INSIDE = 0.5
"""The share from which a pixel belongs to the object."""


@torch.no_grad()
def instances(outputs: torch.Tensor, count: int, most: int, typical: float) -> torch.Tensor:
    """(N, `most`, WIDTH) float32 by falling score, from outputs (N, K + 2, H, W) for `count` classes K: edges in
    pixels, class (−1: none), score, and the mask on the grid over the box (`box_masks`). An object's class is the most
    probable one over its pixels; its score is the mean probability of that class in them, times their `agreement`."""
    found = torch.zeros(len(outputs), most, WIDTH)
    found[..., CLASS] = NO_OBJECT
    for image, each in enumerate(outputs.float()):
        shares = each[:count].sigmoid().cpu().numpy()
        likely = shares.max(0)
        offset = torch.nan_to_num(each[count:]) * typical
        numbers = grouped(np.nan_to_num(likely), offset, typical)
        for place, row in enumerate(_rows(numbers, likely, shares, agreement(numbers, offset), most)):
            found[image, place] = torch.from_numpy(row)
    return found.to(outputs.device)


def _rows(
    numbers: NDArray[np.int32],
    likely: NDArray[np.float32],
    shares: NDArray[np.float32],
    agreed: NDArray[np.float64],
    most: int,
) -> list[NDArray[np.float32]]:
    """A row for each of the `most` objects in `numbers` (H, W) with the highest scores, by falling score."""
    area = np.bincount(numbers.ravel())
    totals = [np.bincount(numbers.ravel(), each.ravel(), len(area)) for each in shares]
    means = (np.stack(totals) / np.maximum(area, 1))[:, 1:]
    from scipy import ndimage  # a fifth of a second to load

    kinds, scores, parts = means.argmax(0), means.max(0) * agreed, ndimage.find_objects(numbers)
    found: list[NDArray[np.float32]] = []
    for place in np.argsort(-scores, kind="stable")[:most].tolist():
        if (at := parts[place]) is None:
            continue
        top, left, bottom, right = at[0].start, at[1].start, at[0].stop, at[1].stop
        edges = np.array([left, top, right, bottom], np.float32)
        own = (numbers[at] == place + 1) * shares_inside(likely[at])
        mask = packed(torch.from_numpy(gathered(own, (top, left), edges))).numpy()
        found.append(np.concatenate([edges, [kinds[place], scores[place]], mask]).astype(np.float32))
    return found


def masks_of(
    found: NDArray[np.floating], size: tuple[int, int]
) -> Iterator[tuple[NDArray[np.float32], tuple[int, int]]]:
    """The mask of each detection (D, WIDTH) in pixels of a picture of (height, width) `size`: shares (h, w) and the
    first pixel (top, left)."""
    for row, shares in zip(found, unpacked(found[:, MASK:]), strict=True):
        yield pasted(shares, row, size)


def inside(part: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each pixel belongs to the object."""
    return part >= _INSIDE


def instance_map(found: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.int32]:
    """(height, width): for each pixel the number, from 1, of the most probable detection (D, WIDTH) that it belongs to;
    0 for none."""
    numbers, best = np.zeros(size, np.int32), np.full(size, np.nextafter(np.float32(_INSIDE), np.float32(0)))
    for number, (part, (top, left)) in enumerate(masks_of(found, size), 1):
        at = np.s_[top : top + part.shape[0], left : left + part.shape[1]]
        better = part > best[at]
        numbers[at][better], best[at][better] = number, part[better]
    return numbers
