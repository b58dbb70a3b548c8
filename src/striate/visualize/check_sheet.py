"""A contact sheet of what a check of data found: a strip of pictures for each finding."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from striate.visualize.canvas import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    SMALL,
    TEXT,
    VERMILION,
    main_title,
    new_figure,
    shorten,
    show_image,
)
from striate.wording import shorten_middle

COLUMNS = 6
_WIDTH, _TILE, _HEADING = 9.6, 2.35, 0.33
_LETTERS = 23
_COLORS = {"error": VERMILION, "warning": ORANGE, "note": BLUE}


@dataclass(frozen=True)
class SheetTile:
    """`image` (C, H, W) uint8, or None where it cannot be read; `path` and `words` stand under it. Neighbors with the
    same `group` are copies of each other and have one frame's color."""

    image: NDArray[np.uint8] | None
    path: str
    words: str
    group: int


@dataclass(frozen=True)
class SheetRow:
    """A finding's `code` and `severity`, `heading` in words, and up to six tiles."""

    code: str
    severity: str
    heading: str
    tiles: tuple[SheetTile, ...]


def sheet_figure(rows: Sequence[SheetRow], *, title: str) -> Figure:
    """The rows one under the other, on white ground, so that it can be read on a dark page as well."""
    figure = new_figure(_WIDTH, len(rows) * (_TILE + _HEADING) + 0.4)
    main_title(figure, title)
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, row in zip(parts, rows, strict=True):
        _draw_row(part, row)
    return figure


def _draw_row(part: SubFigure, row: SheetRow) -> None:
    part.set_facecolor("white")
    letters = int(_WIDTH * 72 / (TEXT * 0.62))
    part.suptitle(
        shorten(f"{row.severity} {row.code}: {row.heading}", letters),
        x=0.01,
        ha="left",
        fontsize=TEXT,
        color=INK,
        fontweight="bold",
        parse_math=False,
    )
    grid = part.subplots(1, COLUMNS, squeeze=False)[0]
    for axes, tile in zip(grid, row.tiles, strict=False):
        _draw_tile(axes, tile, _COLORS[row.severity] if tile.group % 2 == 0 else FAINT)
    for axes in grid[len(row.tiles) :]:
        axes.set_axis_off()


def _draw_tile(axes: Axes, tile: SheetTile, color: str) -> None:
    if tile.image is None:
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        axes.text(0.5, 0.5, "cannot\nbe read", ha="center", va="center", fontsize=SMALL, color=INK)
        axes.set_xticks([])
        axes.set_yticks([])
    else:
        show_image(axes, tile.image)
    axes.set_anchor("N")
    axes.spines[:].set(color=color, linewidth=2.5)
    folder, _, name = tile.path.rpartition("/")
    lines = [shorten_middle(folder, _LETTERS), shorten_middle(name, _LETTERS)]
    lines += textwrap.wrap(tile.words, _LETTERS, max_lines=2, placeholder="…")
    axes.set_xlabel("\n".join(filter(None, lines)), fontsize=SMALL - 1, color=INK, parse_math=False)
