"""The metrics of instance segmentation: those of masks first, then those of boxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.boxes import CLASS, CROWD
from striate.data.annotations.instances import objects_of
from striate.data.mask_codes import as_entry, encode_part
from striate.tasks.detect.assess import by_coco
from striate.tasks.detect.average_precision import SCORE
from striate.tasks.detect.metrics import METRICS as BOX_METRICS
from striate.tasks.instances.decode import inside, masks_of
from striate.tasks.metric import Metric

MASK_MAP = Metric("mask_map", "mask mAP", "share")
METRICS = (
    MASK_MAP,
    Metric("mask_map50", "mask mAP at IoU 0.5", "share"),
    *BOX_METRICS,
)


def mask_metrics(decoded: NDArray[Any], targets: NDArray[Any], classes: int) -> dict[str, float]:
    """`mask_map`, `mask_map50` and `mask_map75` by faster-coco-eval; 0 where there are no objects."""
    import torch

    size = (targets.shape[1], targets.shape[2])
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image, (rows, target) in enumerate(zip(decoded, targets, strict=True), 1):
        boxes, values = (part[0].numpy() for part in objects_of(torch.from_numpy(target[None]), classes))
        for row, value in zip(boxes[values > 0], values[values > 0], strict=True):
            left, top, right, bottom = row[:4].astype(int).tolist()
            seen = target[top:bottom, left:right] == value
            entry = _entry(image, row, seen, (top, left), size)
            truth.append(entry | {"id": len(truth) + 1, "iscrowd": int(row[CROWD])})
        there = rows[rows[:, CLASS] >= 0]
        for row, (part, corner) in zip(there, masks_of(there, size), strict=True):
            found.append(_entry(image, row, inside(part), corner, size) | {"score": float(row[SCORE])})
    figures = by_coco(truth, found, len(targets), classes, decoded.shape[1], "segm", size)
    return {f"mask_{name}": value for name, value in figures.items()}


def _entry(
    image: int, row: NDArray[Any], seen: NDArray[np.bool_], corner: tuple[int, int], size: tuple[int, int]
) -> dict[str, Any]:
    x0, y0, x1, y1 = map(float, row[:4])
    return {
        "image_id": image,
        "category_id": int(row[CLASS]) + 1,
        "segmentation": as_entry(encode_part(seen, corner, size), size),
        "area": float(seen.sum()),
        "bbox": [x0, y0, x1 - x0, y1 - y0],
    }
