"""Boxes of images that are moved or resized."""

from __future__ import annotations

import torch

from striate.data.annotations.boxes import CLASS, GRID, NO_OBJECT, VISIBLE
from striate.data.augment.warp import Warp


def warp_boxes(targets: torch.Tensor, warp: Warp, size: tuple[int, int]) -> torch.Tensor:
    """(B, M, …) targets of images of (height, width) `size` pixels that were moved by `warp`: cropped, mirrored, bent,
    shifted. Of a box that is bent it is the upright box around its four corners. A box that leaves the image is
    clipped, and dropped where less than `VISIBLE` of its area is left."""
    height, width = size
    edges = targets[..., :4].double()
    x, y = edges[..., [0, 2]], edges[..., [1, 3]]
    if warp.box is not None:
        top, left, tall, wide = (part[:, None, None].to(edges) for part in warp.box.double().unbind(1))
        x, y = (x - left * width) / wide, (y - top * height) / tall
    x = _mirrored(x, warp.flip, width)
    if warp.vertical_flip is not None:
        y = _mirrored(y, warp.vertical_flip, height)
    if warp.linear is not None:
        corners = torch.stack([x[..., [0, 1, 1, 0]] - width / 2, y[..., [0, 0, 1, 1]] - height / 2], -1)
        bent = torch.einsum("bij,bmkj->bmki", warp.linear.to(edges), corners)
        x, y = (
            torch.stack([bent[..., k].amin(-1), bent[..., k].amax(-1)], -1) + side / 2
            for k, side in enumerate((width, height))
        )
    down, right = (part[:, None, None].to(edges) for part in warp.shift.unbind(1))
    moved = torch.stack([x[..., 0] + right[..., 0], y[..., 0] + down[..., 0]], -1)
    moved = torch.cat([moved, torch.stack([x[..., 1] + right[..., 0], y[..., 1] + down[..., 0]], -1)], -1)
    return _clipped(targets, moved, size)


def _mirrored(places: torch.Tensor, mirror: torch.Tensor, side: int) -> torch.Tensor:
    """(B, M, 2) from low to high, in images that are mirrored where (B,) `mirror` says so."""
    return torch.where(mirror.to(places.device)[:, None, None], side - places.flip(-1), places)


def _clipped(targets: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    most = torch.tensor([size[1], size[0], size[1], size[0]], dtype=boxes.dtype, device=boxes.device)
    inside = torch.minimum(boxes.clamp(min=0), most)
    whole, left = ((box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (boxes, inside))
    kept = (targets[..., CLASS] >= 0) & (left > 0) & (left >= VISIBLE * whole)
    moved = targets.clone()
    moved[..., :4] = ((inside * GRID).round() / GRID).to(targets.dtype)
    moved[..., CLASS] = torch.where(kept, targets[..., CLASS], NO_OBJECT)
    return torch.where(kept[..., None] | _is(CLASS, targets), moved, 0.0)


def _is(column: int, targets: torch.Tensor) -> torch.Tensor:
    return torch.arange(targets.shape[-1], device=targets.device) == column


def resize_boxes(targets: torch.Tensor, before: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
    """Targets of images that were of (height, width) `before` pixels and have `size` now."""
    scale = torch.tensor([size[1] / before[1], size[0] / before[0]], dtype=targets.dtype, device=targets.device)
    resized = targets.clone()
    resized[..., :4] = targets[..., :4] * scale.repeat(2)
    return resized
