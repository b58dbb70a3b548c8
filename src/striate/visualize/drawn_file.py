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


_LEAST, _LINE, _LETTER, _SWATCH = 256, 20, 13, 12
"""Pixels of the shorter side above a legend, of a line of it, of its letters and of a color."""
_LETTERS = 30


def with_legend(picture: NDArray[Any], legend: Sequence[tuple[str, tuple[int, int, int]]]) -> NDArray[Any]:
    """The picture (H, W, 3) uint8 above the names of its colors, enlarged by a whole number if it is small; without a
    `legend`, the picture as it is."""
    if not legend:
        return picture
    factor = max(1, -(-_LEAST // min(picture.shape[:2])))
    enlarged = np.repeat(np.repeat(picture, factor, 0), factor, 1)
    height, width = enlarged.shape[:2]
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
    sheet.paste(Image.fromarray(enlarged))
    draw = ImageDraw.Draw(sheet)
    for x, y, text, color in placed:
        draw.rectangle((x, y + 2, x + _SWATCH, y + 2 + _SWATCH), fill=color, outline="black")
        draw.text((x + _SWATCH + 6, y), text, "black", font)
    return np.asarray(sheet)
