"""Cuts a rotated rectangle out of a picture."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.data.media.image.fitting import scale_bytes

_MARGIN = 3  # pixels beside the rectangle that the interpolation may use


def cut_out(
    planes: NDArray[np.uint8],
    center: tuple[float, float],
    sides: tuple[float, float],
    angle: float = 0.0,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """(C, height, width): a rectangle of a picture (C, H, W), rotated so that it is upright.

    The rectangle has this `center` (x, y) and `sides` (width, height), in pixels from the corner of the first pixel,
    and is rotated by `angle` degrees counterclockwise. An upright rectangle is rounded to whole pixels, which are
    copied; a rotated one is interpolated (bicubic). Pixels outside the picture repeat its outermost pixels. `size`:
    (height, width) to scale to."""
    wide, high = (max(1, round(side)) for side in sides)
    if angle == 0:
        found = _window(planes, round(center[1] - high / 2), round(center[0] - wide / 2), high, wide)
    else:
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        reach = math.ceil(math.hypot(wide, high) / 2) + _MARGIN
        top, left = math.floor(center[1]) - reach, math.floor(center[0]) - reach
        around = _window(planes, top, left, 2 * reach + 1, 2 * reach + 1)
        # The place in `around` of each pixel of the result.
        x = center[0] - left - cos * wide / 2 - sin * high / 2
        y = center[1] - top + sin * wide / 2 - cos * high / 2
        how = Image.Transform.AFFINE, (cos, sin, x, -sin, cos, y), Image.Resampling.BICUBIC
        found = np.stack([np.asarray(Image.fromarray(plane).transform((wide, high), *how)) for plane in around])
    return found if size is None else scale_bytes(found, size)


def _window(planes: NDArray[np.uint8], top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
    rows = np.arange(top, top + height).clip(0, planes.shape[1] - 1)
    columns = np.arange(left, left + width).clip(0, planes.shape[2] - 1)
    return np.ascontiguousarray(planes[:, rows][:, :, columns])
