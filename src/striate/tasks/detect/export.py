"""What an exported detector gives: boxes, scores and labels of each picture of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.annotations.boxes import CLASS
from striate.layers.suppression import suppress
from striate.tasks.detect.average_precision import SCORE
from striate.tasks.detect.decode import BEFORE, MOST, SCORED, SUPPRESSED
from striate.tasks.detect.head import parts_of
from striate.tasks.exported import Frame

OUTPUTS = ("boxes", "scores", "labels")
_NEAR = 0.002
"""Detections whose scores are that near to the threshold may be on either side of it."""


def exported_boxes(
    outputs: torch.Tensor, count: int, size: tuple[int, int], frame: Frame
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`detections` by operations that can be traced: boxes (N, M, 4) in pixels of the picture, scores (N, M) by falling
    score, labels (N, M) int64; score 0 and label −1 where there are no more."""
    scores = outputs[..., :count].float().sigmoid().flatten(1)
    values, places = scores.topk(min(BEFORE, scores.shape[1]), dim=1)
    numbers = places % count
    boxes = parts_of(outputs, count)[1].float()
    boxes = boxes.gather(1, (places // count)[..., None].expand(-1, -1, 4))
    by_class = torch.where(numbers[:, None] == torch.arange(count)[:, None], values[:, None], 0.0)
    # What has a lower score suppresses nothing: it may as well take part.
    kept = suppress(boxes, by_class, SUPPRESSED, SCORED / 2) & (values >= SCORED)
    best, order = torch.where(kept, values, 0.0).topk(min(MOST, values.shape[1]), dim=1)
    limits = torch.tensor([*size[::-1], *size[::-1]], dtype=boxes.dtype)
    boxes = torch.minimum(boxes.clamp(min=0), limits).gather(1, order[..., None].expand(-1, -1, 4))
    ends = torch.cat([frame.in_picture(boxes[..., :2]), frame.in_picture(boxes[..., 2:])], 2)
    there = best > 0
    ends = torch.minimum(ends.clamp(min=0), torch.cat([frame.size, frame.size])) * there[..., None]
    return ends, best, torch.where(there, numbers.gather(1, order), -1)


def detections_of(arrays: Any) -> NDArray[np.float64]:
    """(N, M, 6) rows as `detections` gives them."""
    boxes, scores, labels = arrays
    return np.concatenate([boxes, labels[..., None], scores[..., None]], 2).astype(np.float64)


def disparity_of_boxes(right: NDArray[Any], found: NDArray[Any], threshold: float) -> tuple[float, bool]:
    """How far scores differ, and edges in shares of the picture's longer side as far as the boxes tell it, of the
    detections from the threshold on; and whether the same ones are found."""
    right, found = (rows[rows[:, CLASS] >= 0] for rows in (right, found))
    side = max(1.0, float(right[:, :4].max(initial=0)))
    worst, same = 0.0, True
    for rows, others in ((right, found), (found, right)):
        for row in rows[rows[:, SCORE] >= threshold + _NEAR]:
            alike = others[others[:, CLASS] == row[CLASS]]
            if not len(alike):
                return float("inf"), False
            far = np.maximum(abs(alike[:, :4] - row[:4]).max(1) / side, abs(alike[:, SCORE] - row[SCORE]))
            worst = max(worst, float(far.min()))
            same &= bool(far.min() < _NEAR)
    return worst, same
