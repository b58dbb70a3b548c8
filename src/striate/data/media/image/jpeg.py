"""Fast decoding of JPEGs: ordinary ones directly into an array by libjpeg-turbo (simplejpeg), without Pillow's picture
in between, and large ones at 1/2, 1/4 or 1/8 of their size.

A JPEG stores frequencies of blocks of 8 × 8 pixels. Leaving out the high ones gives a smaller picture directly, without
computing and averaging all pixels (G. K. Wallace, "The JPEG still picture compression standard", 1991; scaled inverse
transforms of libjpeg). The smaller picture must have at least twice the pixels of the input on each axis; the
antialiased filter does the rest.

The result differs from that of the full picture: on photographs by less than two of 255 levels on average over any one
picture, and by at most 28 in any pixel; on patterns made to break it (checkerboards, stripes, noise, small print) by
less than nine on average, and by at most 28 in any pixel.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from striate.data.config import Fit
from striate.data.media.image.fitting import Reduced, geometry
from striate.data.media.medium import Preparation

_PIXELS_PER_PIXEL = 2
"""The reduced picture has at least so many pixels per pixel of the input, on each axis."""
_LARGEST = 8
_SWAPPED = frozenset(
    (
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
    )
)
_MIRRORED = {
    "x": frozenset(
        (
            Image.Transpose.FLIP_LEFT_RIGHT,
            Image.Transpose.ROTATE_180,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
        )
    ),
    "y": frozenset(
        (
            Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.ROTATE_180,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        )
    ),
}
"""The axes of the upright picture that a transposition reverses."""


def reduction(size: tuple[int, int], target: tuple[int, int], fit: Fit) -> int:
    """1, 2, 4 or 8: the factor by which a picture of `size` may be reduced before it is fitted into `target` (height,
    width)."""
    how = geometry(size, target, fit)
    left, top, right, bottom = how.box
    spare = min((right - left) / how.inner[0], (bottom - top) / how.inner[1])
    factor = 1
    while factor < _LARGEST and spare >= 2 * factor * _PIXELS_PER_PIXEL:
        factor *= 2
    return factor


def reduce_decoding(image: Image.Image, turn: Image.Transpose | None, preparation: Preparation) -> Reduced | None:
    """Set up a JPEG, of which only the header was read, to be decoded at a fraction of its size, if that is enough for
    the input. Returns None where it is decoded at full size.

    `turn`: the transposition that will make it upright.
    """
    if image.format != "JPEG" or image.mode not in ("L", "RGB"):
        return None
    width, height = image.size
    size = (width, height) if turn in _SWAPPED else (height, width)
    factor = reduction(size, preparation.input_shape[1:], preparation.fit)  # type: ignore[arg-type]
    if factor == 1 or image.draft(image.mode, (width // factor, height // factor)) is None:
        return None
    if image.size != (-(-width // factor), -(-height // factor)):
        raise ValueError(f"decoded at {image.size}, not at 1/{factor} of {width} × {height}")
    # The last pixel of a row may reach beyond the picture; in a reversed row it comes first.
    beyond = tuple(-(-length // factor) * factor - length for length in reversed(size))
    origin = tuple(extra if turn in _MIRRORED[axis] else 0 for axis, extra in zip(("x", "y"), beyond, strict=True))
    return Reduced(size, factor, origin)  # type: ignore[arg-type]


_MODES = {"YCbCr": "RGB", "Gray": "GRAY"}
_START_OF_SCAN, _APP1 = 0xDA, 0xE1


def plain_jpeg_header(data: bytes) -> tuple[int, int, str] | None:
    """Height, width and mode (`RGB` or `GRAY`) of an ordinary, upright JPEG. This is much faster than Pillow, which has
    to read the others: None for them, and where simplejpeg is not installed.
    """
    if not data.startswith(b"\xff\xd8\xff") or _may_be_turned(data):
        return None
    try:
        import simplejpeg  # type: ignore[import-untyped]
    except ImportError:
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, KeyError):  # an error of libjpeg, or a color space without a name
        return None
    mode = _MODES.get(space)
    return None if mode is None else (height, width, mode)


def _may_be_turned(data: bytes) -> bool:
    """Whether EXIF or XMP may have an orientation, or the segments before the pixels are unusual."""
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
    """(H, W, C) uint8 with the channels of `preparation`; None for any other kind of file.

    Pillow decodes to the same bytes, and has to read the files for which this is None: other formats, EXIF or XMP that
    may have an orientation, color that becomes gray, other color spaces, pictures to decode at a fraction of their
    size, and damaged or too large ones, for which it raises the error. Also None where simplejpeg is not installed.
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
    except ValueError:  # an error of libjpeg
        return None
    return np.repeat(pixels, 3, axis=2) if (channels, mode) == (3, "GRAY") else pixels
