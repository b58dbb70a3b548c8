"""Overlaps of the masks of detections and objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.annotations.boxes import CLASS, CROWD
from striate.data.annotations.instances import objects_of
from striate.tasks.detect.average_precision import SCORE
from striate.tasks.instances.decode import MASK, inside, masks_of

_IMAGE, _PLACE = MASK, MASK + 1
"""Columns in place of masks: the image, and the row in its table of overlaps."""


class MaskOverlaps:
    """The detections (N, D, 8) and objects (N, M, 8) of images, whose last two columns are positions in tables of
    overlaps.

    A call with some detections and objects of one image returns their IoU; for crowds, the share of the detection.

    `decoded` (N, D, WIDTH), `targets` (N, H, W).
    """

    def __init__(self, decoded: NDArray[Any], targets: NDArray[Any], classes: int) -> None:
        boxes, values = (part.numpy() for part in objects_of(torch.from_numpy(targets), classes))
        self.found = _with_places(decoded[..., : SCORE + 1], 0)
        self.objects = _with_places(boxes, decoded.shape[1])
        self._first = decoded.shape[1]
        self._tables = [_table(*each) for each in zip(decoded, boxes, values, targets, strict=True)]

    def __call__(self, found: NDArray[Any], objects: NDArray[Any]) -> NDArray[np.float64]:
        if not len(found) or not len(objects):
            return np.zeros((len(found), len(objects)))
        table = self._tables[int(objects[0, _IMAGE])]
        rows, columns = found[:, _PLACE].astype(int), objects[:, _PLACE].astype(int) - self._first
        shares: NDArray[np.float64] = table[np.ix_(rows, columns)]
        return shares


def _with_places(rows: NDArray[Any], first: int) -> NDArray[np.float64]:
    image, place = (np.asarray(axis) for axis in np.indices(rows.shape[:2]))
    return np.concatenate([rows, image[..., None], first + place[..., None]], 2).astype(np.float64)


def _table(
    found: NDArray[Any], boxes: NDArray[Any], values: NDArray[np.int64], target: NDArray[Any]
) -> NDArray[np.float64]:
    """(D + M, M) overlaps of the detections of an image, and of its objects, with its objects."""
    table = np.zeros((len(found) + len(values), len(values)))
    table[len(found) :] = np.eye(len(values))
    # Pixel values mapped to object numbers, so that one count gives a part's overlap with all objects.
    known, places = np.unique(np.concatenate([[0], values[values > 0]]), return_inverse=True)
    areas = np.bincount(np.searchsorted(known, target.ravel()), minlength=len(known)).astype(np.float64)
    there = found[:, CLASS] >= 0
    crowd = boxes[:, CROWD] > 0
    for place, (part, (top, left)) in zip(np.flatnonzero(there), masks_of(found[there], target.shape), strict=True):
        seen = inside(part)
        under = target[top : top + part.shape[0], left : left + part.shape[1]][seen]
        common = np.bincount(np.searchsorted(known, under), minlength=len(known)).astype(np.float64)
        area = float(seen.sum())
        shares = common / np.maximum(area + areas - common, 1)
        alone = common / max(area, 1.0)
        table[place, : len(places) - 1] = np.where(crowd[: len(places) - 1], alone[places[1:]], shares[places[1:]])
    return table
