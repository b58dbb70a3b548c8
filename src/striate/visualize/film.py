"""Pictures one after another as a GIF, with a line of text under them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from striate.runs.files import write_atomic

SIDE = 240
_LINE = 16
_LAST = 1200  # milliseconds


class FilmFrame(NamedTuple):
    """A picture, uint8 (H, W, 3), and the text under it."""

    picture: NDArray[np.uint8]
    text: str


def write_film(path: Path, frames: Sequence[FilmFrame], milliseconds: int) -> None:
    """Write an endless GIF that shows each frame for `milliseconds`, the last one longer. Small pictures are enlarged
    by a whole number to about `SIDE`. Raises RunError."""
    images = [_drawn(frame).quantize(64, dither=Image.Dither.NONE) for frame in frames]
    durations = [milliseconds] * (len(images) - 1) + [_LAST]
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False)
    write_atomic(path, lambda file: file.write(buffer.getvalue()))


def film_strip(frames: Iterable[FilmFrame]) -> NDArray[np.uint8]:
    """The frames side by side, with a gap of white, uint8 (H, W, 3)."""
    images = [np.asarray(_drawn(frame)) for frame in frames]
    white = np.full((images[0].shape[0], 6, 3), 255, np.uint8)
    parts = [part for image in images for part in (image, white)][:-1]
    return np.concatenate(parts, axis=1)


def _drawn(frame: FilmFrame) -> Image.Image:
    height, width = frame.picture.shape[:2]
    scale = max(SIDE // max(height, width), 1)
    enlarged = frame.picture.repeat(scale, axis=0).repeat(scale, axis=1)
    image = Image.new("RGB", (max(enlarged.shape[1], 120), enlarged.shape[0] + _LINE), "white")
    image.paste(Image.fromarray(enlarged), ((image.width - enlarged.shape[1]) // 2, 0))
    ImageDraw.Draw(image).text((3, enlarged.shape[0] + 2), frame.text, fill="black")
    return image
