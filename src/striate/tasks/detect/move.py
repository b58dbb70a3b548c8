"""Boxes of images that are moved or resized."""

from __future__ import annotations

import torch

from striate.data.annotations.boxes import ANGLE, CLASS, GRID, NO_OBJECT, VISIBLE
from striate.data.augment.warp import Warp
from striate.data.rotated_boxes import SEEN, transform_boxes
from striate.tasks.detect.rotated import areas, common_area, with_angle


def warp_boxes(targets: torch.Tensor, warp: Warp, size: tuple[int, int]) -> torch.Tensor:
    """(B, M, …) targets of images of (height, width) `size` pixels that were moved by `warp`: cropped, mirrored,
    transformed linearly, shifted.

    A box that is transformed becomes the upright box around its four corners. A box that leaves the image is clipped,
    and dropped where less than `VISIBLE` of its area is left. For rotated boxes, see `_warp_rotated`.
    """
    if targets.shape[-1] > ANGLE:
        return _warp_rotated(targets, warp, size)
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
    """(B, M, 2) low and high edges after mirroring, in the images for which `mirror` (B,) is true."""
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
    """Targets of images that were resized from (height, width) `before` to `size` pixels."""
    scale = torch.tensor([size[1] / before[1], size[0] / before[0]], dtype=targets.dtype, device=targets.device)
    resized = targets.clone()
    if targets.shape[-1] > ANGLE:
        matrix = torch.diag(scale).expand(len(targets), 2, 2)
        center, half, angle = _bent(*_rotated_parts(targets), matrix, (0, 0))
        resized[..., :4] = torch.cat([center - half, center + half], -1).to(targets.dtype)
        resized[..., ANGLE] = angle.to(targets.dtype)
    else:
        resized[..., :4] = targets[..., :4] * scale.repeat(2)
    return resized


def _warp_rotated(targets: torch.Tensor, warp: Warp, size: tuple[int, int]) -> torch.Tensor:
    """Mirroring a rotated box negates its angle; a linear transformation gives the nearest box (`transform_boxes`). A
    box that leaves the image is not clipped, and dropped where less than `SEEN` of its area is left in the image."""
    height, width = size
    center, half, angle = _rotated_parts(targets)
    if warp.box is not None:
        top, left, tall, wide = warp.box.double().to(center.device).unbind(1)
        first = torch.stack([left * width, top * height], 1)[:, None]
        stretch = torch.diag_embed(1 / torch.stack([wide, tall], 1))
        center, half, angle = _bent(center - first, half, angle, stretch, (0, 0))
    for axis, mirror in enumerate((warp.flip, warp.vertical_flip)):
        if mirror is None:
            continue
        flipped = mirror.to(center.device)[:, None]
        other = torch.where(flipped, size[1 - axis] - center[..., axis], center[..., axis])
        center = torch.stack([other, center[..., 1]] if axis == 0 else [center[..., 0], other], -1)
        angle = torch.where(flipped, -angle, angle)
    if warp.linear is not None:
        center, half, angle = _bent(center, half, angle, warp.linear.to(center), (width / 2, height / 2))
    center = center + warp.shift.flip(1).to(center)[:, None]
    boxes = (torch.cat([center - half, center + half], -1) * GRID).round() / GRID
    rotated = torch.cat([boxes, angle[..., None]], -1)
    image = torch.tensor([0, 0, width, height, 0], dtype=boxes.dtype, device=boxes.device)
    left = common_area(rotated.flatten(0, 1), image.expand(rotated[..., 0].numel(), -1)).view(angle.shape)
    whole = areas(rotated)
    kept = (targets[..., CLASS] >= 0) & (whole > 0) & (left >= SEEN * whole)
    moved = targets.clone()
    moved[..., :4], moved[..., ANGLE] = boxes.to(targets.dtype), angle.to(targets.dtype)
    moved[..., CLASS] = torch.where(kept, targets[..., CLASS], NO_OBJECT)
    return torch.where(kept[..., None] | _is(CLASS, targets), moved, 0.0)


_Parts = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _rotated_parts(targets: torch.Tensor) -> _Parts:
    """Centers and half sides (B, M, 2), and angles (B, M)."""
    boxes = with_angle(targets).double()
    return (boxes[..., :2] + boxes[..., 2:4]) / 2, (boxes[..., 2:4] - boxes[..., :2]) / 2, boxes[..., 4]


def _bent(
    center: torch.Tensor, half: torch.Tensor, angle: torch.Tensor, matrix: torch.Tensor, about: tuple[float, float]
) -> _Parts:
    """The boxes after a linear transformation (B, 2, 2) about a point. Scaling keeps the angle, bit for bit."""
    middle, lone = center.new_tensor(about), matrix.to(center)[:, None]
    center = torch.einsum("bmij,bmj->bmi", lone.expand(-1, center.shape[1], -1, -1), center - middle) + middle
    (a, b), (c, d) = lone[..., 0, :].unbind(-1), lone[..., 1, :].unbind(-1)
    wide, high, turned = transform_boxes(half[..., 0], half[..., 1], angle, ((a, b), (c, d)), torch)
    scaled = (a == d) & (b == 0) & (c == 0)
    sides = torch.where(scaled[..., None], half * a[..., None], torch.stack([wide, high], -1))
    return center, sides, torch.where(scaled, angle, turned)
