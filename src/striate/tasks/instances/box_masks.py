"""The mask of an object as shares on a grid over its box, independent of the size of the picture.

Between the points of the grid, a mask is interpolated, so that its borders are smooth in a file that is larger than the
input. He et al., "Mask R-CNN", ICCV 2017, also have masks of 28 × 28 points in boxes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

SIDE = 28
"""Number of points along each side of the grid."""
MARGIN = 1.25
"""Side of the grid as a multiple of the box's, so that a box that is a little too small does not cut the mask."""
_LEVELS, _EACH = 16, 6
"""Levels that shares are quantized to, and number of shares in one float32, which holds 24 bits."""
COLUMNS = -(-SIDE * SIDE // _EACH)
"""Number of float32 values of one mask."""


def packed(shares: torch.Tensor) -> torch.Tensor:
    """(…, COLUMNS) float32 that encode masks (…, SIDE, SIDE), 0 to 1."""
    steps = (shares.flatten(-2) * (_LEVELS - 1)).round()
    steps = torch.nn.functional.pad(steps, (0, COLUMNS * _EACH - SIDE * SIDE))
    powers = torch.tensor([float(_LEVELS**k) for k in range(_EACH)], device=shares.device)
    numbers: torch.Tensor = (steps.unflatten(-1, (COLUMNS, _EACH)) * powers).sum(-1)
    return numbers


def unpacked(columns: NDArray[np.floating]) -> NDArray[np.float32]:
    """(…, SIDE, SIDE) shares, decoded from `packed` masks (…, COLUMNS)."""
    steps = columns.astype(np.int64)[..., None] // _LEVELS ** np.arange(_EACH) % _LEVELS
    flat = steps.reshape(*columns.shape[:-1], COLUMNS * _EACH)[..., : SIDE * SIDE]
    shares = flat.reshape(*columns.shape[:-1], SIDE, SIDE) / (_LEVELS - 1)
    return shares.astype(np.float32)


def region_of(box: NDArray[np.floating]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom edge of the grid over a box."""
    left, top, right, bottom = map(float, box[:4])
    x, y, wide, high = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    wide, high = max(wide, 1e-3) * MARGIN / 2, max(high, 1e-3) * MARGIN / 2
    return x - wide, y - high, x + wide, y + high


def pasted(
    shares: NDArray[np.float32], box: NDArray[np.floating], size: tuple[int, int]
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """A mask (SIDE, SIDE) in pixels of a picture of (height, width) `size`: the shares (h, w) of the pixels whose
    centers lie under the grid, and the first of these pixels (top, left)."""
    left, top, right, bottom = region_of(box)
    rows, first_row = _interpolation(top, bottom, size[0])
    columns, first_column = _interpolation(left, right, size[1])
    return (rows @ shares @ columns.T).astype(np.float32, copy=False), (first_row, first_column)


def _interpolation(low: float, high: float, length: int) -> tuple[NDArray[np.float32], int]:
    """(pixels, SIDE) weights, and the first of the pixels along an axis whose centers lie between `low` and `high`."""
    first, last = max(0, int(np.ceil(low - 0.5))), min(length, int(np.floor(high - 0.5)) + 1)
    places = ((np.arange(first, last) + 0.5 - low) / (high - low) * SIDE - 0.5).clip(0, SIDE - 1)
    weights: NDArray[np.float32] = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(SIDE))).astype(np.float32)
    return weights, first


def gathered(inside: NDArray[Any], corner: tuple[int, int], box: NDArray[np.floating]) -> NDArray[np.float32]:
    """(SIDE, SIDE) shares on the grid over `box` of a mask in pixels: `inside`, 0 to 1, with its first pixel at
    `corner` (top, left)."""
    left, top, right, bottom = region_of(box)
    rows = _means(top, bottom, corner[0], inside.shape[0])
    columns = _means(left, right, corner[1], inside.shape[1])
    shares: NDArray[np.float32] = rows @ inside.astype(np.float32) @ columns.T
    return shares


def _means(low: float, high: float, first: int, count: int) -> NDArray[np.float32]:
    """(SIDE, pixels) weights of the pixels around each point."""
    step = (high - low) / SIDE
    points, places = low + (np.arange(SIDE) + 0.5) * step, first - 1 + np.arange(count + 2) + 0.5
    weights = np.maximum(0, 1 - np.abs(points[:, None] - places) / max(1.0, step))
    total = np.maximum(weights.sum(1, keepdims=True), 1e-9)
    shares: NDArray[np.float32] = (weights / total)[:, 1:-1].astype(np.float32)
    return shares
