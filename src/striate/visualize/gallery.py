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

from striate.visualize.canvas import GREEN, INK, SMALL, VERMILION, main_title, shorten, show_image
from striate.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LETTERS, _COLUMNS = 22, 5


@dataclass(frozen=True)
class Tile:
    """One sample of a gallery."""

    image: ArrayLike
    """(C, H, W) uint8."""
    predicted: str
    """The predicted class, or number."""
    probability: float | None
    """Of the predicted class, 0 to 1; None for numbers, which are neither right nor wrong."""
    truth: str
    """The true class, or number."""
    right: bool
    """Whether the predicted class is the true one."""


_CELL, _PICTURE, _TOP = (1.75, 2.2), 1.6, 0.4
"""Inches: a cell's width and height, the side of the square its image is fitted into, and the title's line."""


def gallery_figure(tiles: Sequence[Tile], *, title: str) -> Figure:
    """The tiles row by row; wrong predictions have a cross, the true class and a thick frame.

    All are drawn into one pair of axes, in inches: laying out a pair of axes for each tile takes longer than drawing.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(1, min(_COLUMNS, len(tiles)))
    width, height = max(3.5, _CELL[0] * columns), _TOP + _CELL[1] * -(-len(tiles) // columns)
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    left = (width - _CELL[0] * columns) / 2 + _CELL[0] / 2
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        draw_tile(axes, tile, left + _CELL[0] * column, _TOP + _CELL[1] * row + _PICTURE / 2)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    main_title(figure, title).set_y(1 - 0.08 / height)
    return figure


def draw_tile(axes: Axes, tile: Tile, x: float, y: float) -> None:
    """One sample around (`x`, `y`), with the predicted and the true class under it."""
    from matplotlib.patches import Rectangle

    high, wide = (_PICTURE / 2 * side / max(np.shape(tile.image)[1:]) for side in np.shape(tile.image)[1:])
    show_image(axes, tile.image, extent=(x - wide, x + wide, y + high, y - high))
    color, line = (GREEN, 1.0) if tile.right else (VERMILION, 3.5)
    if tile.probability is None:
        color, line = INK, 0.5
    axes.add_patch(Rectangle((x - wide, y - high), 2 * wide, 2 * high, fill=False, color=color, linewidth=line))
    axes.text(
        x,
        y + high + 0.06,
        "\n".join(_below(tile)),
        fontsize=SMALL,
        color=INK,
        fontweight="normal" if tile.right or tile.probability is None else "bold",
        ha="center",
        va="top",
        parse_math=False,
    )


def _below(tile: Tile) -> tuple[str, str]:
    if tile.probability is None:
        return shorten(tile.predicted, _LETTERS), f"true: {shorten(tile.truth, _LETTERS - 6)}"
    mark, share = "✓" if tile.right else "✗", percent(tile.probability, 0)
    second = share if tile.right else f"{share}, true: {shorten(tile.truth, _LETTERS - len(share) - 8)}"
    return f"{mark} {shorten(tile.predicted, _LETTERS - 2)}", second


SIDE = 96
"""Pixels of the longer side: larger images are reduced, smaller ones enlarged by whole factors."""


def encode(image: NDArray[Any], side: int = SIDE) -> tuple[str, int, int, bool]:
    """An image (C, H, W) uint8 as a PNG in base64, the width and height at which it is shown, and whether it is
    enlarged."""
    picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    if max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    times = max(1, side // max(picture.size))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    width, height = picture.size
    return b64encode(file.getvalue()).decode("ascii"), times * width, times * height, times > 1
