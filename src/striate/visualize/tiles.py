"""Images for a page, one by one, so that they find room on any screen."""

from __future__ import annotations

import io
from base64 import b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 96
"""Pixels of the longer side: larger images are made smaller, smaller ones are shown in whole multiples."""


def encode(image: NDArray[Any], side: int = SIDE) -> tuple[str, int, int, bool]:
    """An image (C, H, W) uint8 as a PNG in base64, the width and height at which it is shown, and whether that is more
    than it has."""
    picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    if max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    times = max(1, side // max(picture.size))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    width, height = picture.size
    return b64encode(file.getvalue()).decode("ascii"), times * width, times * height, times > 1
