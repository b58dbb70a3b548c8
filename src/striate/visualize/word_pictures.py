"""A picture with a sentence under it, and the attention of each word."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

_SIDE, _COLUMNS, _LINE, _LETTER = 144, 6, 18, 13
"""Pixels of the longer side of a picture, pictures a row, pixels of a line of text and of its letters."""
_DARKEST = 0.35
"""Brightness of parts without attention."""


def grid_of(cells: int, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a grid of `cells` cells whose shape is nearest to a picture of (height, width) `size`."""
    pairs = [(rows, cells // rows) for rows in range(1, cells + 1) if cells % rows == 0]
    wanted = size[0] / size[1]
    return min(pairs, key=lambda pair: abs(np.log(pair[0] / pair[1] / wanted)))


def drawn_words(
    image: ArrayLike, words: Sequence[str], attention: NDArray[np.float32], texts: Sequence[str] = ()
) -> NDArray[np.uint8]:
    """(H, W, 3): the picture (C, H, W) uint8, then a copy for each of T words, brighter where the word's attention is
    larger, of `attention` (T, L) over the cells of a grid; below, lines of `texts`."""
    planes = np.asarray(image)
    pixels = np.ascontiguousarray(np.moveaxis(planes[[0, 0, 0]] if len(planes) == 1 else planes, 0, -1))
    height, width = pixels.shape[:2]
    scale = _SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    shown = Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)
    columns = min(_COLUMNS, len(words) + 1)
    rows = -(-(len(words) + 1) // columns)
    lines = [line for text in texts for line in wrap(text, max(20, columns * (_SIDE + 6) // 7))]
    tall = size[1] + _LINE
    sheet = Image.new("RGB", (columns * (size[0] + 6), rows * tall + _LINE * len(lines) + 4), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_LETTER)
    for number in range(len(words) + 1):
        left, top = number % columns * (size[0] + 6) + 3, number // columns * tall
        part = shown if number == 0 else _lit(shown, attention[number - 1])
        sheet.paste(part, (left, top + _LINE - 2))
        draw.text((left, top), words[number - 1] if number else "", "black", font)
    for number, line in enumerate(lines):
        draw.text((3, rows * tall + number * _LINE), line, "black", font)
    return np.asarray(sheet)


def _lit(picture: Image.Image, attention: NDArray[np.float32]) -> Image.Image:
    width, height = picture.size
    rows, columns = grid_of(len(attention), (height, width))
    shares = attention.reshape(rows, columns) / max(float(attention.max()), 1e-12)
    light = Image.fromarray(shares.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    bright = _DARKEST + (1 - _DARKEST) * np.clip(np.asarray(light), 0, 1)
    return Image.fromarray((np.asarray(picture) * bright[..., None]).astype(np.uint8))
