"""How a picture of one size becomes one of another: the same geometry for images and masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from striate.data.config import Fit

BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


@dataclass(frozen=True)
class Geometry:
    """The part `box` (left, top, right, bottom in source pixels) is scaled to `inner` (width, height) and laid
    at `offset` (left, top) on the canvas."""

    box: tuple[float, float, float, float]
    inner: tuple[int, int]
    offset: tuple[int, int]


def geometry(source: tuple[int, int], size: tuple[int, int], fit: Fit) -> Geometry:
    """How a picture of `source` (height, width) is placed on a canvas of `size` (height, width).

    `crop` scales until the canvas is covered and keeps the center, `stretch` scales each axis by itself, `pad`
    scales until all of the picture is inside and centers it.
    """
    (height, width), (to_height, to_width) = source, size
    whole = (0.0, 0.0, float(width), float(height))
    if fit == "stretch":
        return Geometry(whole, (to_width, to_height), (0, 0))
    if fit == "pad":
        scale = min(to_width / width, to_height / height)
        inner = (
            min(to_width, max(1, round(width * scale))),
            min(to_height, max(1, round(height * scale))),
        )
        return Geometry(whole, inner, ((to_width - inner[0]) // 2, (to_height - inner[1]) // 2))
    scale = max(to_width / width, to_height / height)
    kept_width, kept_height = min(width, to_width / scale), min(height, to_height / scale)
    left, top = (width - kept_width) / 2, (height - kept_height) / 2
    return Geometry((left, top, left + kept_width, top + kept_height), (to_width, to_height), (0, 0))


@dataclass(frozen=True)
class Reduced:
    """How a picture that was decoded at a part of its size lies in the whole.

    The whole has `size` (height, width); a pixel of the picture is `factor` × `factor` of the whole, whose origin is at
    `origin` (left, top) of the picture, in pixels of the whole.
    """

    size: tuple[int, int]
    factor: int
    origin: tuple[int, int] = (0, 0)

    def box(self, box: tuple[float, float, float, float], picture: tuple[int, int]) -> tuple[float, ...]:
        """A box of the whole in pixels of the `picture` (width, height)."""
        places = zip(box, self.origin * 2, picture * 2, strict=True)
        return tuple(min((place + start) / self.factor, float(end)) for place, start, end in places)


def place(image: Image.Image, size: tuple[int, int], fit: Fit, reduced: Reduced | None = None) -> np.ndarray:
    """The uint8 picture (mode L or RGB) on a black canvas of `size`: (H, W) or (H, W, 3) uint8, to be read only.

    Bilinear with antialiasing (Pillow); a picture of the right size is untouched. `reduced` says how a picture that was
    decoded at a part of its size lies in the whole.
    """
    return _place(image, size, fit, BILINEAR, np.uint8, 0, reduced)


def place_mask(values: np.ndarray, size: tuple[int, int], fit: Fit) -> np.ndarray:
    """The mask (H, W) uint8 on a canvas of `size`, as int16: nearest values, and -1 where there is only border."""
    return _place(Image.fromarray(values), size, fit, NEAREST, np.int16, -1)


def _place(
    image: Image.Image,
    size: tuple[int, int],
    fit: Fit,
    resample: Image.Resampling,
    dtype: type[np.generic],
    border: int,
    reduced: Reduced | None = None,
) -> np.ndarray:
    if (image.height, image.width) == size and reduced is None:
        return pixels_of(image).astype(dtype, copy=False)
    how = geometry((image.height, image.width) if reduced is None else reduced.size, size, fit)
    box = how.box if reduced is None else reduced.box(how.box, image.size)
    scaled = pixels_of(image.resize(how.inner, resample, box=box))  # type: ignore[arg-type]
    if how.inner == (size[1], size[0]):
        return scaled.astype(dtype, copy=False)
    canvas = np.full((*size, *scaled.shape[2:]), border, dtype=dtype)
    (left, top), (width, height) = how.offset, how.inner
    canvas[top : top + height, left : left + width] = scaled
    return canvas


def pixels_of(image: Image.Image) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 of a picture in mode L or RGB, to be read only."""
    if image.mode != "RGB":
        return np.asarray(image)
    # Pillow keeps four bytes for a color: to copy them all is four times as fast as to leave out the fourth.
    padded = np.frombuffer(image.tobytes("raw", "RGBX"), np.uint8)
    return padded.reshape(image.height, image.width, 4)[..., :3]
