"""Boxes (left, top, right, bottom): intersection over union, and non-maximum suppression."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.errors import ShapeError
from striate.reference.arguments import Array, array, number, one_each
from striate.reference.rotated_boxes import rotated_box_iou


def _boxes(given: ArrayLike, name: str) -> Array:
    boxes = array(given, name)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ShapeError(
            name, f"shape {boxes.shape}", "(N, 4): left, top, right, bottom", f"np.reshape({name}, (-1, 4))"
        )
    return boxes


def _overlap(a: Array, b: Array) -> tuple[float, float]:
    """Area of the intersection and of the union; a box with reversed edges has no area."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(wide, 0.0) * max(high, 0.0)
    areas = [max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0) for box in (a, b)]
    return common, sum(areas) - common


def box_iou(a: ArrayLike, b: ArrayLike) -> Array:
    """(N, M) intersection over union of boxes (N, 4) and (M, 4); 0 where neither has an area."""
    first, second = _boxes(a, "a"), _boxes(b, "b")
    found = np.zeros((len(first), len(second)))
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            common, union = _overlap(one, other)
            found[i, j] = common / union if union > 0 else 0.0
    return found


def generalized_iou(a: ArrayLike, b: ArrayLike) -> Array:
    """The generalized IoU (N,) of pairs of boxes (N, 4): IoU minus the share of the smallest enclosing box that neither
    covers. Rezatofighi et al., "Generalized intersection over union", CVPR 2019."""
    first, second = _boxes(a, "a"), _boxes(b, "b")
    if first.shape != second.shape:
        raise ShapeError("b", f"shape {second.shape}", f"{first.shape}, as a", "one box of b for each of a")
    found = np.zeros(len(first))
    for i, (one, other) in enumerate(zip(first, second, strict=True)):
        common, union = _overlap(one, other)
        around = (max(one[2], other[2]) - min(one[0], other[0])) * (max(one[3], other[3]) - min(one[1], other[1]))
        found[i] = (common / union if union > 0 else 0.0) - ((around - union) / around if around > 0 else 0.0)
    return found


def non_maximum_suppression(
    boxes: ArrayLike, scores: ArrayLike, classes: ArrayLike, threshold: float
) -> NDArray[np.int64]:
    """Indices of the kept boxes (N, 4), or rotated ones (N, 5), in descending order of the `scores` (N,); of equal
    scores, the first comes first. Of two boxes of the same of the `classes` (N,) whose IoU is above the threshold, the
    one with the lower score is dropped. Raises ShapeError, UsageError."""
    rotated = array(boxes, "boxes").shape[1:] == (5,)
    overlap = rotated_box_iou(boxes, boxes) if rotated else box_iou(boxes, boxes)
    score = one_each(array(scores, "scores"), "scores", len(overlap), "boxes")
    kind, threshold = one_each(classes, "classes", len(overlap), "boxes"), number(threshold, "threshold", 0, 1)
    kept: list[int] = []
    for place in np.argsort(-score, kind="stable").tolist():
        if all(kind[place] != kind[other] or overlap[place, other] <= threshold for other in kept):
            kept.append(place)
    return np.array(kept, np.int64)
