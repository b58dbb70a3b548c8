"""The usual JPEG, decoded straight into an array by libjpeg-turbo (simplejpeg), without Pillow's picture in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from striate.data.reduce import reduction

if TYPE_CHECKING:
    from striate.data.dataset import Preparation  # which imports torch

_HEADER_BYTES = 1 << 17
_MODES = {"YCbCr": "RGB", "Gray": "GRAY"}


def decode_plain_jpeg(data: bytes, preparation: Preparation) -> np.ndarray | None:
    """(H, W, C) uint8 with the channels of `preparation`; None for all that is not quite usual.

    Pillow decodes to the same bytes, and is to be asked where this is None: other formats, EXIF (a picture may have to
    be turned), color that is to become gray, other color spaces, what is to be decoded at a part of its size, and
    whatever is damaged or too large, so that it says why. Also where simplejpeg is not installed.
    """
    if not data.startswith(b"\xff\xd8\xff") or data.find(b"Exif\0\0", 0, _HEADER_BYTES) >= 0:
        return None
    try:
        import simplejpeg  # type: ignore[import-untyped]
    except ImportError:
        return None
    channels, target = preparation.input_shape[0], preparation.input_shape[1:]
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        mode = _MODES.get(space)
        if mode is None or (channels, mode) == (1, "RGB") or height * width > preparation.max_pixels:
            return None
        if preparation.reduced and reduction((height, width), target, preparation.fit) > 1:  # type: ignore[arg-type]
            return None
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, mode, strict=True)
    except (ValueError, KeyError):  # what libjpeg says against it, or a color space without a name
        return None
    return np.repeat(pixels, 3, axis=2) if (channels, mode) == (3, "GRAY") else pixels
