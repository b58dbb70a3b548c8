"""Non-maximum suppression of overlapping boxes as one operation, which exported programs and ONNX files have too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch

_BY_ROUNDS = ContextVar("_BY_ROUNDS", default=False)


@contextmanager
def by_rounds() -> Iterator[None]:
    """While the body runs, traced programs use torch's own operations only."""
    before = _BY_ROUNDS.set(True)
    try:
        yield
    finally:
        _BY_ROUNDS.reset(before)


def suppress(boxes: torch.Tensor, scores: torch.Tensor, threshold: float, least: float) -> torch.Tensor:
    """The kept boxes, (N, B) bool: by `suppression()`, or by `suppress_by_rounds` within `by_rounds`."""
    alone = _BY_ROUNDS.get() and torch.compiler.is_exporting()
    kept: torch.Tensor = (suppress_by_rounds if alone else suppression())(boxes, scores, threshold, least)
    return kept


@cache
def suppression() -> Any:
    """The operation `suppress(boxes, scores, threshold, least)`, which the first call registers with torch.

    It returns (N, B) bool: which of the boxes (N, B, 4) are kept, where boxes of a class overlap with an IoU above the
    threshold. `scores` (N, K, B): each box has a score in the row of its class, and 0 in the others; boxes with a score
    of `least` or below are not kept. In ONNX, it is NonMaxSuppression over all images of the batch.
    """
    operation = torch.library.custom_op("striate::suppress", _suppress, mutates_args=())
    operation.register_fake(lambda boxes, *_: boxes.new_empty(boxes.shape[:2], dtype=torch.bool))
    return torch.ops.striate.suppress.default


def _suppress(boxes: torch.Tensor, scores: torch.Tensor, threshold: float, least: float) -> torch.Tensor:
    kept = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    for image, rows in enumerate(scores):
        for row in rows:
            order = torch.argsort(row, descending=True, stable=True)
            order = order[row[order] > least]
            while len(order):
                first, order = order[0], order[1:]
                kept[image, first] = True
                order = order[_iou(boxes[image, first], boxes[image, order]) <= threshold]
    return kept


def _iou(one: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    corner, first = torch.minimum(one[2:], others[:, 2:]), torch.maximum(one[:2], others[:, :2])
    common = (corner - first).clamp(min=0).prod(1)
    areas = [(part[..., 2:] - part[..., :2]).clamp(min=0).prod(-1) for part in (one, others)]
    return common / (areas[0] + areas[1] - common).clamp(min=1e-9)


def suppress_by_rounds(boxes: torch.Tensor, scores: torch.Tensor, threshold: float, least: float) -> torch.Tensor:
    """The same by torch's own operations, for traced programs; boxes are in descending order of their scores. Each
    round keeps the boxes that no kept box before them overlaps, until nothing changes (Zheng et al., "Enhancing
    geometric factors in model learning and inference for object detection", 2020: Cluster-NMS)."""
    from torch._higher_order_ops import while_loop

    best, kind = scores.max(1)
    corner = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    common = (corner - torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])).clamp(min=0).prod(3)
    areas = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(2)
    iou = common / (areas[:, :, None] + areas[:, None] - common).clamp(min=1e-9)
    order = torch.arange(boxes.shape[1])
    over = (iou > threshold) & (kind[:, :, None] == kind[:, None]) & (order[:, None] < order)

    def changes(kept: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        return (kept != before).any()

    def again(kept: torch.Tensor, before: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        del before
        return ~(over & kept[:, :, None]).any(1), kept.clone()

    kept, _ = while_loop(changes, again, (torch.ones_like(best, dtype=torch.bool), torch.zeros_like(best).bool()))
    found: torch.Tensor = kept & (best > least)
    return found


def suppress_in_onnx(boxes: Any, scores: Any, threshold: float, least: float) -> Any:
    """The operation in ONNX, in the form that torch's exporter expects."""
    from onnxscript import opset18

    op: Any = opset18
    count = op.Constant(value_ints=[2**31 - 1])
    limit, lowest = op.Constant(value_floats=[threshold]), op.Constant(value_floats=[least])
    chosen = op.NonMaxSuppression(boxes, scores, count, limit, lowest)  # rows of image, class, box
    places = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
    shape = op.Gather(op.Shape(boxes), op.Constant(value_ints=[0, 1]), axis=0)
    ones = op.Expand(op.Constant(value_ints=[1]), op.Shape(chosen, start=0, end=1))
    marks = op.ScatterND(op.Expand(op.Constant(value_ints=[0]), shape), places, ones)
    return op.Cast(marks, to=9)
