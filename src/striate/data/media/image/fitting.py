"""Fitting pictures into a size, with the same geometry for images (bilinear with antialiasing) and masks (nearest)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from striate.data.config import Fit
from striate.data.media.medium import Placement


def scale_bytes(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A new array (C, *size): (C, H, W) uint8 resized to `size` (height, width).

    torch's filter for bytes agrees with Pillow's up to one level, in half of its time. It gives the same bytes on all
    processors (default, AVX2, AVX-512).
    """
    import torch  # imported here, so that reading headers does not wait for it
    from torch.nn.functional import interpolate

    if planes.shape[1:] == size:
        return np.array(planes, order="C")
    # NumPy makes the copies: torch would start a team of threads for them in each thread that reads files.
    pixels = np.ascontiguousarray(np.moveaxis(planes, 0, -1))
    x = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy()).permute(2, 0, 1)[None]
    return np.array(interpolate(x, size, mode="bilinear", antialias=True)[0].numpy(), order="C")


BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


@dataclass(frozen=True)
class Geometry:
    """How a picture is fitted into a canvas: a part of it is scaled and placed."""

    box: tuple[int, int, int, int]
    """The part: left, top, right, bottom in pixels of the picture."""
    inner: tuple[int, int]
    """(width, height) that it is scaled to."""
    offset: tuple[int, int]
    """(left, top) of its place on the canvas."""


def geometry(source: tuple[int, int], size: tuple[int, int], fit: Fit) -> Geometry:
    """How a picture of `source` (height, width) is fitted into a canvas of `size` (height, width).

    `crop` scales the picture to cover the canvas and crops it to the center; `stretch` scales each axis separately;
    `pad` scales the picture to fit inside and centers it.
    """
    (height, width), (to_height, to_width) = source, size
    whole = (0, 0, width, height)
    if fit == "stretch":
        return Geometry(whole, (to_width, to_height), (0, 0))
    if fit == "pad":
        inner = (
            min(to_width, max(1, _nearest(width * to_height, height))),
            min(to_height, max(1, _nearest(height * to_width, width))),
        )
        return Geometry(whole, inner, ((to_width - inner[0]) // 2, (to_height - inner[1]) // 2))
    # Whole pixels, which the fast filter needs; half a pixel on a side makes no difference.
    kept_width = min(width, max(1, _nearest(to_width * height, to_height)))
    kept_height = min(height, max(1, _nearest(to_height * width, to_width)))
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return Geometry((left, top, left + kept_width, top + kept_height), (to_width, to_height), (0, 0))


def _nearest(a: int, b: int) -> int:
    """a / b rounded to the nearest integer, ties to even. It is computed in integers: a floating-point quotient could
    round differently, and an exported network has to agree."""
    whole, rest = divmod(a, b)
    return whole + (2 * rest > b or (2 * rest == b and whole % 2 == 1))


def uncropped_size(source: tuple[int, int], size: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """(height, width) of an uncropped and unpadded picture of `source` (height, width), at the scale at which `fit`
    brings it to `size`."""
    (height, width), (to_height, to_width) = source, size
    if fit == "stretch":
        return size
    choose = max if fit == "crop" else min
    return (
        choose(to_height, max(1, _nearest(height * to_width, width))),
        choose(to_width, max(1, _nearest(width * to_height, height))),
    )


def placement(source: tuple[int, int], size: tuple[int, int], fit: Fit) -> Placement:
    """Where a picture of `source` (height, width) lies in an input of `size`."""
    how = geometry(source, size, fit)
    left, top, right, bottom = how.box
    scale = how.inner[0] / (right - left), how.inner[1] / (bottom - top)
    return Placement(source, size, scale, (how.offset[0] - left * scale[0], how.offset[1] - top * scale[1]))


@dataclass(frozen=True)
class Reduced:
    """How a picture that was decoded at a fraction of its size lies in the full picture."""

    size: tuple[int, int]
    """(height, width) of the full picture."""
    factor: int
    """A pixel stands for `factor` × `factor` pixels of the full picture."""
    origin: tuple[int, int] = (0, 0)
    """(left, top) of the full picture's origin in this picture, in pixels of the full picture."""

    def box(self, box: tuple[int, int, int, int], picture: tuple[int, int]) -> tuple[float, ...]:
        """A box of the full picture in pixels of the reduced `picture` (width, height)."""
        places = zip(box, self.origin * 2, picture * 2, strict=True)
        return tuple(min((place + start) / self.factor, float(end)) for place, start, end in places)


def place_picture(pixels: np.ndarray, size: tuple[int, int], fit: Fit) -> np.ndarray:
    """A new array (C, *size): the uint8 picture (H, W) or (H, W, C) on a black canvas of `size`.

    Only the part that remains is resized, bilinear with antialiasing as in Pillow; a picture of the right size is not
    resized.
    """
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    if pixels.shape[:2] == size:
        return np.array(planes, order="C")
    how = geometry(pixels.shape[:2], size, fit)
    left, top, right, bottom = how.box
    return _on_canvas(scale_bytes(planes[:, top:bottom, left:right], how.inner[::-1]), how, size)


def place_reduced(image: Image.Image, size: tuple[int, int], fit: Fit, reduced: Reduced) -> np.ndarray:
    """`place_picture` for a picture in mode L or RGB that was decoded at a fraction of its size."""
    how = geometry(reduced.size, size, fit)
    left, top, right, bottom = reduced.box(how.box, image.size)
    part = image.crop((math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)))
    box = (left - math.floor(left), top - math.floor(top), right - math.floor(left), bottom - math.floor(top))
    scaled = pixels_of(part.resize(how.inner, BILINEAR, box=box))
    planes = scaled[None] if scaled.ndim == 2 else np.moveaxis(scaled, -1, 0)
    return _on_canvas(np.array(planes, order="C"), how, size)


def _on_canvas(planes: np.ndarray, how: Geometry, size: tuple[int, int]) -> np.ndarray:
    if planes.shape[1:] == size:
        return planes
    canvas = np.zeros((len(planes), *size), planes.dtype)
    (left, top), (width, height) = how.offset, how.inner
    canvas[:, top : top + height, left : left + width] = planes
    return canvas


def place_mask(values: np.ndarray, size: tuple[int, int], fit: Fit) -> np.ndarray:
    """The mask (H, W) uint8 on a canvas of `size`, as int16: nearest values, and -1 outside the picture."""
    if values.shape == size:
        return values.astype(np.int16)
    how = geometry(values.shape, size, fit)
    canvas = np.full(size, -1, np.int16)
    (left, top), (width, height) = how.offset, how.inner
    scaled = Image.fromarray(values).resize(how.inner, NEAREST, box=how.box)
    canvas[top : top + height, left : left + width] = np.asarray(scaled)
    return canvas


def pixels_of(image: Image.Image) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8 of a picture in mode L or RGB; read-only."""
    if image.mode != "RGB":
        return np.asarray(image)
    # Pillow stores four bytes per color: copying all of them is four times as fast as leaving out the fourth.
    padded = np.frombuffer(image.tobytes("raw", "RGBX"), np.uint8)
    return padded.reshape(image.height, image.width, 4)[..., :3]
