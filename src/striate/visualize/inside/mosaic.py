"""Shared by the figures of this folder: many small pictures as one, and a caption below."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.visualize.canvas import FAINT, INK, SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Picture = NDArray[np.float64]
_PLANE, _LINE = 3, 0.72


def columns_for(count: int, height: int, width: int, ratio: float = 1.7) -> int:
    """The number of columns with which a mosaic of `count` tiles is about `ratio` times as wide as high, and few places
    are empty."""
    best = max(1, min(count, round(math.sqrt(count * ratio * height / width))))
    near = range(max(1, round(0.75 * best)), min(count, round(1.34 * best)) + 1)
    return min(near, key=lambda columns: (-count % columns, abs(columns - best)))


def mosaic(tiles: Sequence[Picture], columns: int, gap: int = 1) -> Picture:
    """The tiles (h, w, 3) with values 0 to 1, row by row, with gray lines of `gap` pixels between and around them."""
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    page = np.ones((rows * (height + gap) + gap, columns * (width + gap) + gap, _PLANE))
    for place, tile in enumerate(tiles):
        top, left = (place // columns) * (height + gap), (place % columns) * (width + gap)
        page[top : top + height + 2 * gap, left : left + width + 2 * gap] = _LINE
        page[top + gap : top + gap + height, left + gap : left + gap + width] = tile
    return page


def signed_colors(values: NDArray[Any], most: float) -> Picture:
    """Blue below zero, white at zero, red above: (H, W, 3) for (H, W) and `most`, where the colors end."""
    return _colors("RdBu_r", 0.5 + 0.5 * values / (most or 1.0))


def strength_colors(values: NDArray[Any], low: float, high: float) -> Picture:
    """Dark at `low`, bright at `high`: (H, W, 3) for (H, W)."""
    return _colors("gray", (values - low) / ((high - low) or 1.0))


def _colors(name: str, values: NDArray[Any]) -> Picture:
    from matplotlib import colormaps

    return np.asarray(colormaps[name](np.clip(values.astype(np.float64), 0, 1)))[..., :_PLANE]


def show_mosaic(
    axes: Axes, tiles: Sequence[Picture], columns: int, *, rows: Sequence[str] = (), heads: Sequence[str] = ()
) -> None:
    """Draw the tiles; `rows` and `heads` name them along both sides, as far as there is room."""
    # Small tiles are enlarged, so that the lines between them stay thin.
    times = max(1, 32 // max(tiles[0].shape[:2]))
    tiles = [tile.repeat(times, 0).repeat(times, 1) for tile in tiles]
    height, width = tiles[0].shape[:2]
    gap = max(1, round(max(height, width) / 28))
    axes.imshow(mosaic(tiles, columns, gap), interpolation="nearest", aspect="equal")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=SMALL, labelcolor=FAINT)
    axes.xaxis.tick_top()
    for names, side, set_ticks in ((heads, width, axes.set_xticks), (rows, height, axes.set_yticks)):
        step = max(1, -(-len(names) // 24))
        places = [(gap + k * (side + gap) + (side - 1) / 2, name) for k, name in enumerate(names) if k % step == 0]
        set_ticks([place for place, _ in places], [name for _, name in places])


def caption(figure: Figure, text: str) -> None:
    """Write the text below the figure, wrapped."""
    lines = textwrap.wrap(text, int(figure.get_figwidth() * 72 / (SMALL * 0.56)))
    figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=SMALL, color=INK, parse_math=False)
