"""A rectangle cut out of a picture and turned upright."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.data.media.image.fitting import scale_bytes

_BESIDE = 3  # pixels that the interpolation may look at beside the rectangle


def cut_out(
    planes: NDArray[np.uint8],
    center: tuple[float, float],
    sides: tuple[float, float],
    angle: float = 0.0,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """(C, height, width) of the rectangle of a picture (C, H, W) with this `center` (x, y) and these `sides` (width,
    height), all in pixels from the corner of the first one, that is turned by `angle` degrees counterclockwise; so that
    it is upright. An upright one has the picture's own pixels, the edges rounded to them; a turned one is interpolated
    (bicubic). What lies beyond the picture repeats its outermost pixels. `size` (height, width) scales it."""
    wide, high = (max(1, round(side)) for side in sides)
    if angle == 0:
        found = _window(planes, round(center[1] - high / 2), round(center[0] - wide / 2), high, wide)
    else:
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        reach = math.ceil(math.hypot(wide, high) / 2) + _BESIDE
        top, left = math.floor(center[1]) - reach, math.floor(center[0]) - reach
        around = _window(planes, top, left, 2 * reach + 1, 2 * reach + 1)
        # Of a pixel of the result, where it lies in `around`.
        x = center[0] - left - cos * wide / 2 - sin * high / 2
        y = center[1] - top + sin * wide / 2 - cos * high / 2
        how = Image.Transform.AFFINE, (cos, sin, x, -sin, cos, y), Image.Resampling.BICUBIC
        found = np.stack([np.asarray(Image.fromarray(plane).transform((wide, high), *how)) for plane in around])
    return found if size is None else scale_bytes(found, size)


def _window(planes: NDArray[np.uint8], top: int, left: int, height: int, width: int) -> NDArray[np.uint8]:
    rows = np.arange(top, top + height).clip(0, planes.shape[1] - 1)
    columns = np.arange(left, left + width).clip(0, planes.shape[2] - 1)
    return np.ascontiguousarray(planes[:, rows][:, :, columns])
