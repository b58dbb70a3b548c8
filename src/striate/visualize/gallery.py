"""Samples with their predictions and true classes, as a figure and one by one for a page."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from striate.visualize.canvas import GREEN, INK, SMALL, VERMILION, main_title, new_figure, shorten, show_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LETTERS = 22


@dataclass(frozen=True)
class Tile:
    """One sample: `image` (C, H, W) uint8, the predicted class with its probability (0 to 1), the true class."""

    image: ArrayLike
    predicted: str
    probability: float
    truth: str
    right: bool


def gallery_figure(tiles: Sequence[Tile], *, title: str, columns: int = 5) -> Figure:
    """The tiles row by row; wrong predictions have a cross, the true class and a thick frame."""
    columns = max(1, min(columns, len(tiles)))
    rows = max(1, -(-len(tiles) // columns))
    figure = new_figure(max(3.5, 1.75 * columns), 2.2 * rows + 0.35)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, tile in zip(grid, tiles, strict=False):
        draw_tile(axes, tile)
    for axes in grid[len(tiles) :]:
        axes.set_axis_off()
    main_title(figure, title)
    return figure


def draw_tile(axes: Axes, tile: Tile) -> None:
    """One sample with two lines under it: the predicted class, its probability and the true class."""
    show_image(axes, tile.image)
    mark = "✓" if tile.right else "✗"
    percent = f"{100 * tile.probability:.0f} %"
    second = percent if tile.right else f"{percent}, is {shorten(tile.truth, _LETTERS - len(percent) - 5)}"
    axes.set_xlabel(
        f"{mark} {shorten(tile.predicted, _LETTERS - 2)}\n{second}",
        fontsize=SMALL,
        color=INK,
        fontweight="normal" if tile.right else "bold",
        parse_math=False,
    )
    axes.spines[:].set(color=GREEN if tile.right else VERMILION, linewidth=1.0 if tile.right else 3.5)


SIDE = 96
"""Pixels of the longer side: larger images are made smaller, smaller ones are enlarged by whole factors."""


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
