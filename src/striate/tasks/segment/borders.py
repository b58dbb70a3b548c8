"""The boundary F1 of classes: IoU depends little on borders, since most pixels lie inside.

The F1 measure of Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic segmentation?", BMVC
2013: a border pixel is right where the other mask has a border of the same class within 0.75 % of the image's diagonal.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.masks import IGNORED

TOLERANCE = 0.0075
"""Tolerance as a share of the diagonal."""
_NUMBERS = (np.uint8, np.uint16, np.uint32, np.uint64)
_BITS = 64  # number of classes that the largest integer type can hold


def tolerance_of(shape: tuple[int, ...]) -> int:
    """The tolerance in pixels along each axis, at least 1, for a mask (H, W) or (D, H, W)."""
    return max(1, round(TOLERANCE * math.hypot(*shape)))


def border_rows(decoded: NDArray[np.uint8], targets: NDArray[np.uint8], classes: int) -> NDArray[np.float64]:
    """(N, 4, K) counts for masks (N, H, W) or (N, D, H, W), a column for each class: predicted border pixels near true
    ones, all predicted ones, true border pixels near predicted ones, all true ones. Unlabeled pixels have no border and
    do not count."""
    reach, rows = tolerance_of(targets.shape[1:]), np.zeros((len(targets), 4, classes))
    for row, predicted, truth in zip(rows, decoded, targets, strict=True):
        predicted = np.where(truth == IGNORED, IGNORED, predicted)
        borders = [borders_of(mask) for mask in (predicted, truth)]
        for place, (mask, own, other, theirs) in enumerate(
            ((predicted, borders[0], truth, borders[1]), (truth, borders[1], predicted, borders[0]))
        ):
            row[2 * place + 1] = np.bincount(mask[own], minlength=classes)[:classes]
            row[2 * place] = _matched_borders(mask, own, other, theirs, reach, classes)
    return rows


def borders_of(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(H, W) or (D, H, W) bool: labeled pixels next to a labeled one of another class along some axis."""
    found, known = np.zeros(mask.shape, np.bool_), mask != IGNORED
    for axis in range(mask.ndim):
        one, other = (np.moveaxis(mask, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
        both = np.moveaxis(known, axis, 0)
        differ = (one != other) & both[:-1] & both[1:]
        moved = np.moveaxis(found, axis, 0)
        moved[:-1] |= differ
        moved[1:] |= differ
    return found


def _matched_borders(
    mask: NDArray[np.uint8],
    own: NDArray[np.bool_],
    other: NDArray[np.uint8],
    theirs: NDArray[np.bool_],
    reach: int,
    classes: int,
) -> NDArray[np.int64]:
    """(K,) number of border pixels `own` of `mask` with a border pixel of their class in `other` within `reach`.
    Classes are bits of one number per pixel, so that all are dilated at once."""
    met = np.zeros(classes, np.int64)
    places, edges = np.nonzero(own), np.nonzero(theirs)
    labels, beside = mask[places], other[edges]
    for first in range(0, classes, _BITS):
        count = min(_BITS, classes - first)
        number = next(kind for kind in _NUMBERS if np.iinfo(kind).bits >= count)
        power = np.zeros(256, number)  # 2 to the number of the class; 0 for all others
        power[first : first + count] = np.left_shift(number(1), np.arange(count, dtype=number))
        bits = np.zeros(mask.shape, number)
        bits[edges] = power[beside]
        for axis in range(bits.ndim):
            bits = np.moveaxis(_dilated(np.moveaxis(bits, axis, 0), reach), 0, axis)
        near = bits[places]
        met += np.bincount(labels[(near & power[labels]) > 0], minlength=classes)[:classes]
    return met


def _dilated(bits: NDArray[Any], reach: int) -> NDArray[Any]:
    """The bits of all rows within `reach`, combined by OR."""
    found = bits.copy()
    for step in range(1, min(reach, len(bits) - 1) + 1):
        found[step:] |= bits[:-step]
        found[:-step] |= bits[step:]
    return found


def border_f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,) the mean F1 over the classes with a border in the true mask, from (B, 4, K) sums of `border_rows`; NaN where
    no class has one."""
    met, predicted, found, true = (sums[:, part] for part in range(4))
    precision = np.divide(met, predicted, out=np.zeros_like(met), where=predicted > 0)
    recall = np.divide(found, true, out=np.zeros_like(met), where=true > 0)
    both = precision + recall
    each = np.divide(2 * precision * recall, both, out=np.zeros_like(met), where=both > 0)
    occurs = true > 0
    total = np.where(occurs, each, 0).sum(1)
    result: NDArray[np.float64] = np.divide(total, occurs.sum(1), out=np.full(len(sums), np.nan), where=occurs.any(1))
    return result
