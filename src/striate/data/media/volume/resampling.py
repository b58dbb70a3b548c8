"""Resampling of volumes to another number of voxels; their ends stay at the same place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def resample_linear(values: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """(C, D, H, W) at `shape`, linear between the centers of voxels. Where voxels get larger, the weights extend over a
    new voxel, so that all old ones count, as in Pillow's bilinear filter."""
    for axis, (have, want) in enumerate(zip(values.shape[1:], shape, strict=True), 1):
        if have != want:
            values = np.moveaxis(np.tensordot(values, _weights(have, want), (axis, 1)), -1, axis)
    return np.ascontiguousarray(values, np.float32)


def resample_nearest(values: NDArray[Any], shape: Sequence[int]) -> NDArray[Any]:
    """(D, H, W) at `shape`: each new voxel has the value at its center."""
    places = [
        np.minimum((np.arange(want) * 2 + 1) * have // (2 * want), have - 1)
        for have, want in zip(values.shape, shape, strict=True)
    ]
    found: NDArray[Any] = values[np.ix_(*places)]
    return found


def _weights(have: int, want: int) -> NDArray[np.float32]:
    """(want, have): the weight of each voxel in each new one."""
    step = have / want
    reach = max(1.0, step)
    centers = (np.arange(want) + 0.5) * step - 0.5
    distances = np.abs(np.arange(have)[None] - centers.clip(0, have - 1)[:, None])
    weights = np.maximum(0.0, 1 - distances / reach)
    found: NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return found
