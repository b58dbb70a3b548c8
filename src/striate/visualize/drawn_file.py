"""Pictures with a prediction drawn over them: a legend below, and a file in a folder of such pictures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from striate.runs.files import write_atomic
from striate.visualize.canvas import shorten


def write_drawn(folder: Path, name: str, picture: NDArray[Any]) -> str:
    """Write a picture (H, W, 3) uint8 as a PNG named after `name`, a path or a sample (`arrays.npz#3`); its path.
    Nothing in the folder is overwritten."""
    _, sign, number = Path(name).suffix.partition("#")
    names = (f"{Path(name).stem}{sign}{number}{f'-{k}' if k else ''}.png" for k in count())
    file = next(folder / free for free in names if not (folder / free).exists())
    image = Image.fromarray(picture)
    write_atomic(file, lambda opened: image.save(opened, format="PNG"))
    return str(file)


_LEAST = 256
"""Pixels of the side that decides: smaller pictures are enlarged, so that what is drawn leaves them visible."""
_LINE, _LETTER, _SWATCH = 20, 13, 12
"""Pixels of a line of a legend, of its letters and of a color."""
_LETTERS = 30


def enlarged(pixels: NDArray[Any], side: int) -> tuple[NDArray[Any], int]:
    """Pixels (H, W, 3), enlarged by a whole number if their `side` is small; and that number."""
    factor = max(1, -(-_LEAST // side))
    return pixels.repeat(factor, 0).repeat(factor, 1), factor


def with_legend(picture: NDArray[Any], legend: Sequence[tuple[str, tuple[int, int, int]]]) -> NDArray[Any]:
    """The picture (H, W, 3) uint8 above the names of its colors, enlarged by a whole number if it is small; without a
    `legend`, the picture as it is."""
    if not legend:
        return picture
    pixels, _ = enlarged(picture, min(picture.shape[:2]))
    height, width = pixels.shape[:2]
    font = ImageFont.load_default(_LETTER)
    placed, left, line = [], 4, 0
    for name, color in legend:
        text = shorten(name, _LETTERS)
        wide = _SWATCH + 6 + int(font.getlength(text))
        if left > 4 and left + wide > width:
            left, line = 4, line + 1
        placed.append((left, height + 4 + line * _LINE, text, color))
        left += wide + 14
    sheet = Image.new("RGB", (width, height + 4 + (line + 1) * _LINE), "white")
    sheet.paste(Image.fromarray(pixels))
    draw = ImageDraw.Draw(sheet)
    for x, y, text, color in placed:
        draw.rectangle((x, y + 2, x + _SWATCH, y + 2 + _SWATCH), fill=color, outline="black")
        draw.text((x + _SWATCH + 6, y), text, "black", font)
    return np.asarray(sheet)
