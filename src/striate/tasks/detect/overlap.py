"""Overlaps of boxes (left, top, right, bottom), and non-maximum suppression of upright and rotated boxes."""

from __future__ import annotations

import torch

from striate.tasks.detect.rotated import COUNT, rotated_iou

_AT_ONCE = 4_000_000
"""Number of pairs of boxes that are compared at once."""
_BLOCK = 64
"""Number of rotated boxes of an image that are compared with each other at once."""


def pairwise_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(…, N, M) intersection over union of boxes (…, N, 4) and (…, M, 4)."""
    corner = torch.minimum(a[..., :, None, 2:], b[..., None, :, 2:])
    common = (corner - torch.maximum(a[..., :, None, :2], b[..., None, :, :2])).clamp_(min=0).prod(-1)
    union = area(a)[..., :, None] + area(b)[..., None, :] - common
    return common / union.clamp(min=1e-9)


def area(boxes: torch.Tensor) -> torch.Tensor:
    """(…) areas; 0 where left and right, or top and bottom, are exchanged."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def generalized_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(…) generalized IoU of pairs of boxes (…, 4), −1 to 1. Rezatofighi et al., "Generalized intersection over union",
    CVPR 2019."""
    corner, first = torch.minimum(a[..., 2:], b[..., 2:]), torch.maximum(a[..., :2], b[..., :2])
    common = (corner - first).clamp(min=0).prod(-1)
    union = area(a) + area(b) - common
    around = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    around = around.clamp(min=1e-9)
    return common / union.clamp(min=1e-9) - (around - union) / around


def nms_mask(boxes: torch.Tensor, classes: torch.Tensor, threshold: float) -> torch.Tensor:
    """(N, B) bool: which of the boxes (N, B, 4), or rotated ones (N, B, 5), in order of falling scores, remain after
    greedy non-maximum suppression within their classes (N, B): a box that remains drops later ones whose IoU with it
    is above the threshold.

    Each iteration keeps the boxes that no kept box before them overlaps. With each iteration, more boxes at the front
    are final, so that the result is that of the greedy rule, usually after a few iterations (Zheng et al., "Enhancing
    geometric factors in model learning and inference for object detection", 2020: Cluster-NMS). Rotated boxes, whose
    overlap is costly, are taken in blocks: only with the boxes that remain of earlier blocks are they compared.
    """
    kept = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    rotated, count = boxes.shape[2] == COUNT, boxes.shape[1]
    step = max(1, _AT_ONCE // max(1, count * (_BLOCK if rotated else count)))
    for start in range(0, len(boxes), step):
        part = slice(start, start + step)
        if rotated:
            kept[part] = _in_blocks(boxes[part], classes[part], threshold)
            continue
        # [n, i, j]: i, with the higher score, is over j
        over = (classes[part, :, None] == classes[part, None, :]).triu(1)
        over &= pairwise_iou(boxes[part], boxes[part]) > threshold
        kept[part] = _left(over, kept[part])
    return kept


def _in_blocks(boxes: torch.Tensor, classes: torch.Tensor, threshold: float) -> torch.Tensor:
    """`nms_mask` of rotated boxes."""
    kept = torch.zeros_like(classes, dtype=torch.bool)
    for start in range(0, boxes.shape[1], _BLOCK):
        before, own = slice(0, start), slice(start, start + _BLOCK)
        same = (classes[:, before, None] == classes[:, None, own]) & kept[:, before, None]
        free = ~(rotated_iou(boxes[:, before], boxes[:, own], same) > threshold).any(1)
        over = (classes[:, own, None] == classes[:, None, own]).triu(1) & free[:, :, None] & free[:, None]
        over &= rotated_iou(boxes[:, own], boxes[:, own], over) > threshold
        kept[:, own] = _left(over, free)
    return kept


def _left(over: torch.Tensor, free: torch.Tensor) -> torch.Tensor:
    """(N, B) bool: which of the boxes that are `free` (N, B) remain, where box i drops box j if `over[n, i, j]`."""
    kept = free
    while True:
        now = free & ~(over & kept[:, :, None]).any(1)
        if torch.equal(now, kept):
            return kept
        kept = now
