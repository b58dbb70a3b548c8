"""The mask of an object as shares on a grid that lies over its box, whatever the size of the picture.

Between the points of the grid a mask is interpolated, so that it has smooth borders in pixels of a file that is larger
than the input. He et al., "Mask R-CNN", ICCV 2017, has masks of 28 × 28 points in their boxes too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

SIDE = 28
"""Points of the grid on a side."""
MARGIN = 1.25
"""The grid is as many times as large as the box, about its center: boxes that are a little small cut nothing off."""
_LEVELS, _EACH = 16, 6
"""Shares are kept in so many steps, and so many of them in one float32, which holds 24 bits."""
COLUMNS = -(-SIDE * SIDE // _EACH)
"""Numbers that hold one mask."""


def packed(shares: torch.Tensor) -> torch.Tensor:
    """(…, COLUMNS) float32 of masks (…, SIDE, SIDE), 0 to 1."""
    steps = (shares.flatten(-2) * (_LEVELS - 1)).round()
    steps = torch.nn.functional.pad(steps, (0, COLUMNS * _EACH - SIDE * SIDE))
    powers = torch.tensor([float(_LEVELS**k) for k in range(_EACH)], device=shares.device)
    numbers: torch.Tensor = (steps.unflatten(-1, (COLUMNS, _EACH)) * powers).sum(-1)
    return numbers


def unpacked(columns: NDArray[np.floating]) -> NDArray[np.float32]:
    """(…, SIDE, SIDE) shares of `packed` masks (…, COLUMNS)."""
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
    """A mask (SIDE, SIDE) over its box in a picture of (height, width) `size`: the shares (h, w) of the pixels whose
    centers lie under the grid, and the first of these (top, left)."""
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
    """(SIDE, SIDE) shares of a mask whose part `inside`, 0 to 1, has its first pixel at `corner` (top, left)."""
    left, top, right, bottom = region_of(box)
    rows = _means(top, bottom, corner[0], inside.shape[0])
    columns = _means(left, right, corner[1], inside.shape[1])
    shares: NDArray[np.float32] = rows @ inside.astype(np.float32) @ columns.T
    return shares


def _means(low: float, high: float, first: int, count: int) -> NDArray[np.float32]:
    """(SIDE, pixels) the share that each point takes of the pixels around it."""
    step = (high - low) / SIDE
    points, places = low + (np.arange(SIDE) + 0.5) * step, first - 1 + np.arange(count + 2) + 0.5
    weights = np.maximum(0, 1 - np.abs(points[:, None] - places) / max(1.0, step))
    total = np.maximum(weights.sum(1, keepdims=True), 1e-9)
    shares: NDArray[np.float32] = (weights / total)[:, 1:-1].astype(np.float32)
    return shares
