"""Pictures of a volume: slices through it, with the head, or the front, at the top."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_GAP = 2


def gray_levels(plane: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Values from `low` to `high` as levels from 0 to 255."""
    scaled = (plane.astype(np.float32) - low) * (255 / max(high - low, 1e-12))
    return scaled.clip(0, 255).astype(np.uint8)


def in_gray(raw: NDArray[Any]) -> NDArray[np.uint8]:
    """(D, H, W) gray levels of the first channel of a volume (C, D, H, W): the 1st percentile is black, the 99th
    white."""
    low, high = np.percentile(raw[0], (1, 99)).tolist()
    if high <= low:
        low, high = float(raw[0].min()), float(raw[0].max())
    return gray_levels(raw[0], low, high)


def middle_slices(raw: NDArray[Any], at: tuple[int, int, int] | None = None) -> NDArray[np.uint8]:
    """(H, W, 3): three slices of a volume (C, D, H, W), across depth, height and width, side by side in gray
    (`in_gray`). `at`: their places; None: the middle."""
    plane = across(in_gray(raw), at)
    return np.repeat(plane[..., None], 3, 2)


def across(volume: NDArray[Any], at: tuple[int, int, int] | None = None, fill: int = 0) -> NDArray[Any]:
    """Three slices of (D, H, W) side by side, in the type of the volume, with `fill` around them."""
    deep, tall, wide = at or tuple(side // 2 for side in volume.shape)
    # Rows are counted downward, and positions to the front and to the head upward.
    planes = [volume[deep, ::-1], volume[::-1, tall], volume[::-1, :, wide]]
    height = max(len(plane) for plane in planes)
    out = np.full((height, sum(plane.shape[1] + _GAP for plane in planes) - _GAP), fill, volume.dtype)
    left = 0
    for plane in planes:
        out[: plane.shape[0], left : left + plane.shape[1]] = plane
        left += plane.shape[1] + _GAP
    return out


def fullest(mask: NDArray[np.uint8]) -> tuple[int, int, int]:
    """The places of the slices of a mask (D, H, W) with the most voxels of classes other than the first; the middle
    where there are none."""
    inside = (mask > 0) & (mask < 255)
    if not inside.any():
        deep, tall, wide = (side // 2 for side in mask.shape)
        return deep, tall, wide
    deep, tall, wide = (int(inside.sum(others).argmax()) for others in ((1, 2), (0, 2), (0, 1)))
    return deep, tall, wide
