"""Outputs of an exported detector: boxes, scores and labels for each picture of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.annotations.boxes import CLASS
from striate.data.rotated_boxes import transform_boxes
from striate.layers.looping import repeat_while
from striate.layers.suppression import suppress
from striate.tasks.detect.average_precision import SCORE
from striate.tasks.detect.decode import SCORED, SUPPRESSED, SUPPRESSED_ROTATED, candidates_for
from striate.tasks.detect.head import parts_of
from striate.tasks.detect.rotated import boxes_of, ellipses, iou_of_pairs, with_angle
from striate.tasks.exported import Frame

OUTPUTS = ("boxes", "scores", "labels")
_NEAR = 0.002
"""Detections whose scores differ from the threshold by less than this may be on either side of it."""


def _likeliest(outputs: torch.Tensor, count: int, most: int, *, rotated: bool) -> tuple[torch.Tensor, ...]:
    """Scores (N, B) by falling score, class numbers (N, B) and boxes (N, B, …) that go into suppression."""
    scores = outputs[..., :count].float().sigmoid().flatten(1)
    values, places = scores.topk(min(candidates_for(most), scores.shape[1]), dim=1)
    boxes = parts_of(outputs, count, rotated=rotated)[1].float()
    boxes = boxes.gather(1, (places // count)[..., None].expand(-1, -1, boxes.shape[2]))
    return values, places % count, boxes


def exported_boxes(
    outputs: torch.Tensor, count: int, most: int, size: tuple[int, int], frame: Frame
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`detections` by operations that can be traced: boxes (N, M, 4) in pixels of the picture, scores (N, M) by falling
    score, labels (N, M) int64; score 0 and label −1 for padding."""
    values, numbers, boxes = _likeliest(outputs, count, most, rotated=False)
    by_class = torch.where(numbers[:, None] == torch.arange(count)[:, None], values[:, None], 0.0)
    # Detections below the threshold suppress none above it, so they can take part.
    kept = suppress(boxes, by_class, SUPPRESSED, SCORED / 2) & (values >= SCORED)
    best, order = torch.where(kept, values, 0.0).topk(min(most, values.shape[1]), dim=1)
    limits = torch.tensor([*size[::-1], *size[::-1]], dtype=boxes.dtype)
    boxes = torch.minimum(boxes.clamp(min=0), limits).gather(1, order[..., None].expand(-1, -1, 4))
    ends = torch.cat([frame.in_picture(boxes[..., :2]), frame.in_picture(boxes[..., 2:])], 2)
    there = best > 0
    ends = torch.minimum(ends.clamp(min=0), torch.cat([frame.size, frame.size])) * there[..., None]
    return ends, best, torch.where(there, numbers.gather(1, order), -1)


def exported_rotated_boxes(
    outputs: torch.Tensor, count: int, most: int, frame: Frame
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same for rotated boxes (N, M, 5): edges before rotation, and an angle. No runtime has a suppression of
    rotated boxes, so it is a loop: each of `most` iterations keeps, in every image, the remaining box with the highest
    score and drops those that overlap it."""
    values, numbers, ellipse = _likeliest(outputs, count, most, rotated=True)
    boxes, most = boxes_of(ellipse), min(most, values.shape[1])
    turns = torch.arange(most)

    def some_left(turn: torch.Tensor, left: torch.Tensor, picked: torch.Tensor) -> torch.Tensor:
        del picked
        return (turn < most) & left.any()

    def keep_next(turn: torch.Tensor, left: torch.Tensor, picked: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first = (left * values).argmax(1, keepdim=True)
        there = left.gather(1, first)
        one = boxes.gather(1, first[..., None].expand(-1, -1, 5)).expand_as(boxes)
        overlap = iou_of_pairs(one.flatten(0, 1), boxes.flatten(0, 1)).view_as(values)
        same = numbers == numbers.gather(1, first)
        places = torch.arange(left.shape[1]) == first
        gone = places | (same & (overlap > SUPPRESSED_ROTATED))
        picked = torch.where((turns == turn) & there, first, picked)
        return turn + 1, left & ~gone, picked

    none = torch.full_like(numbers[:, :most].contiguous(), -1)
    begin = torch.zeros((), dtype=torch.int64), values >= SCORED, none
    _, _, picked = repeat_while(some_left, keep_next, begin)
    there, order = picked >= 0, picked.clamp(min=0)
    found = _in_picture(boxes.gather(1, order[..., None].expand(-1, -1, 5)), frame) * there[..., None]
    best = torch.where(there, values.gather(1, order), 0.0)
    return found, best, torch.where(there, numbers.gather(1, order), -1)


def _in_picture(boxes: torch.Tensor, frame: Frame) -> torch.Tensor:
    """Rotated boxes (N, M, 5) in pixels of the picture: `data.rotated_boxes.scale_boxes`."""
    center = frame.in_picture((boxes[..., :2] + boxes[..., 2:4]) / 2)
    across, down = 1 / frame.scale
    wide, high, angle = transform_boxes(
        boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1], boxes[..., 4], ((across, 0.0), (0.0, down)), torch
    )
    half = torch.stack([wide, high], 2) / 2
    return torch.cat([center - half, center + half, angle[..., None]], 2)


def detections_of(arrays: Any) -> NDArray[np.float64]:
    """(N, M, 6) rows in the form of `detections`; for rotated boxes (N, M, 7)."""
    boxes, scores, labels = arrays
    rows = [boxes[..., :4], labels[..., None], scores[..., None], boxes[..., 4:]]
    return np.concatenate(rows, 2).astype(np.float64)


def disparity_of_boxes(
    right: NDArray[Any], found: NDArray[Any], threshold: float, *, rotated: bool = False
) -> tuple[float, bool]:
    """The largest difference of scores and edges among detections from the threshold on, and whether the same ones are
    found.

    Edges are in shares of the longer side of the area that the boxes cover. Rotated boxes are compared by their centers
    and the logarithms of their sides, which are continuous where an angle is not.
    """
    right, found = (rows[rows[:, CLASS] >= 0] for rows in (right, found))
    side = max(1.0, float(right[:, :4].max(initial=0)))
    worst, same = 0.0, True
    places = [_numbers_of(rows, side, rotated=rotated) for rows in (right, found)]
    for rows, own, others, theirs in ((right, places[0], found, places[1]), (found, places[1], right, places[0])):
        for row, place in zip(rows, own, strict=True):
            if row[SCORE] < threshold + _NEAR:
                continue
            alike = others[:, CLASS] == row[CLASS]
            if not alike.any():
                return float("inf"), False
            far = np.maximum(abs(theirs[alike] - place).max(1), abs(others[alike, SCORE] - row[SCORE]))
            worst = max(worst, float(far.min()))
            same &= bool(far.min() < _NEAR)
    return worst, same


def _numbers_of(rows: NDArray[Any], side: float, *, rotated: bool) -> NDArray[Any]:
    numbers: NDArray[Any] = rows[:, :4] / side
    if rotated:
        ellipse = ellipses(with_angle(torch.from_numpy(np.asarray(rows, np.float64)))).numpy()
        numbers = ellipse / np.array([side, side, 1, 1, 1])
    return numbers
