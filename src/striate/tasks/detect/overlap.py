"""Overlaps of boxes (left, top, right, bottom), and non-maximum suppression of upright and rotated boxes."""

from __future__ import annotations

import torch

from striate.tasks.detect.rotated import COUNT, rotated_iou

_AT_ONCE = 4_000_000
"""Number of pairs of boxes that are compared at once."""


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
    geometric factors in model learning and inference for object detection", 2020: Cluster-NMS).
    """
    kept = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    step = max(1, _AT_ONCE // max(1, boxes.shape[1] ** 2))
    for start in range(0, len(boxes), step):
        part = slice(start, start + step)
        # [n, i, j]: i, with the higher score, is over j
        over = (classes[part, :, None] == classes[part, None, :]).triu(1)
        if boxes.shape[2] == COUNT:
            over &= rotated_iou(boxes[part], boxes[part], over) > threshold
        else:
            over &= pairwise_iou(boxes[part], boxes[part]) > threshold
        while True:
            now = ~(over & kept[part, :, None]).any(1)
            if torch.equal(now, kept[part]):
                break
            kept[part] = now
    return kept
