"""The usual JPEG, decoded straight into an array by libjpeg-turbo (simplejpeg), without Pillow's picture in between."""

from __future__ import annotations

import numpy as np

from striate.data.media.image.reduce import reduction
from striate.data.preparation import Preparation

_MODES = {"YCbCr": "RGB", "Gray": "GRAY"}
_START_OF_SCAN, _APP1 = 0xDA, 0xE1


def plain_jpeg_header(data: bytes) -> tuple[int, int, str] | None:
    """Height, width and mode (`RGB` or `GRAY`) of a usual JPEG that stands upright; None for all else.

    That is much faster than Pillow, which is to be asked where this is None. Also where simplejpeg is not installed.
    """
    if not data.startswith(b"\xff\xd8\xff") or _may_be_turned(data):
        return None
    try:
        import simplejpeg  # type: ignore[import-untyped]
    except ImportError:
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, KeyError):  # what libjpeg says against it, or a color space without a name
        return None
    mode = _MODES.get(space)
    return None if mode is None else (height, width, mode)


def _may_be_turned(data: bytes) -> bool:
    """Whether EXIF or XMP may say how the picture stands, or the segments before its pixels are not as usual."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _START_OF_SCAN:
            return False
        if marker == _APP1 and (data.startswith(b"Exif\0\0", at + 4) or data.find(b"Orientation", at, end) >= 0):
            return True
        at = end
    return True


def decode_plain_jpeg(data: bytes, preparation: Preparation) -> np.ndarray | None:
    """(H, W, C) uint8 with the channels of `preparation`; None for all that is not quite usual.

    Pillow decodes to the same bytes, and is to be asked where this is None: other formats, EXIF or XMP that may say how
    the picture stands, color that is to become gray, other color spaces, what is to be decoded at a part of its size,
    and whatever is damaged or too large, so that it says why. Also where simplejpeg is not installed.
    """
    header = plain_jpeg_header(data)
    if header is None:
        return None
    import simplejpeg

    height, width, mode = header
    channels, target = preparation.input_shape[0], preparation.input_shape[1:]
    if (channels, mode) == (1, "RGB") or height * width > preparation.max_pixels:
        return None
    if preparation.reduced and reduction((height, width), target, preparation.fit) > 1:  # type: ignore[arg-type]
        return None
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(data, mode, strict=True)
    except ValueError:  # what libjpeg says against it
        return None
    return np.repeat(pixels, 3, axis=2) if (channels, mode) == (3, "GRAY") else pixels
