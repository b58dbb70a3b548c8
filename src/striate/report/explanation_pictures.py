"""Pictures of an explanation: maps laid over the image, squares, changes; each a PNG that a page holds itself."""

from __future__ import annotations

import io
from base64 import b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

from striate.visualize.attribution.change import Covering
from striate.visualize.attribution.explanation import as_pixels
from striate.visualize.attribution.record import AttributionMap

Pixels = NDArray[np.uint8]

# Okabe and Ito's vermilion and sky blue, brighter, so that they are seen on black too.
FOR, AGAINST = (255, 110, 0), (40, 150, 255)
_DIM = 0.55
_SMALL = 100


def overlay(raw: NDArray[Any], shown: AttributionMap) -> Pixels:
    """The image in gray (H, W, 3), orange where the map speaks for the answer, blue where it speaks against it; full
    color is at the half percent of highest values."""
    values = shown.values.astype(np.float64)
    top = float(np.quantile(np.abs(values), 0.995)) or float(np.abs(values).max()) or 1.0
    share = (np.abs(values) / top).clip(0, 1)[..., None] ** 0.8
    gray = as_pixels(raw).mean(2, keepdims=True) * _DIM
    color = np.where(values[..., None] >= 0, np.array(FOR, np.float64), np.array(AGAINST, np.float64))
    mixed = gray * (1 - share) + color * share
    return np.asarray(mixed.round().clip(0, 255), np.uint8)


def outlined(raw: NDArray[Any], covering: Covering, blurred: NDArray[Any]) -> Pixels:
    """The image (H, W, 3) with the square that is blurred, and a line around it."""
    pixels, other = as_pixels(raw).copy(), as_pixels(blurred)
    inside = np.zeros(pixels.shape[:2], bool)
    (top, left), (height, width) = covering.first, covering.size
    inside[top : top + height, left : left + width] = True
    pixels[inside] = other[inside]
    line = max(1, min(pixels.shape[:2]) // 100)
    pixels[inside & ~binary_erosion(inside, iterations=line, border_value=0)] = FOR
    return pixels


def difference(raw: NDArray[Any], changed: NDArray[Any]) -> Pixels:
    """By how much the mean of the channels differs: gray where it does not, brighter and darker where it does, as far
    as black and white at the largest difference."""
    gap = (changed.astype(np.float64) - raw.astype(np.float64)).mean(0)
    most = float(np.abs(gap).max()) or 1.0
    gray = (127.5 + 127.5 * gap / most).round().clip(0, 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, 2)


def as_png(pixels: Pixels) -> str:
    """The picture (H, W, 3) as a PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return b64encode(file.getvalue()).decode("ascii")


def enlarged(pixels: Pixels) -> bool:
    """Whether its pixels are to be seen as squares."""
    return bool(max(pixels.shape[:2]) <= _SMALL)
