"""Filters as pictures."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from striate.visualize.canvas import FAINT, SMALL, main_title, new_figure
from striate.visualize.inside.figures.caption import caption
from striate.visualize.inside.figures.mosaic import Picture, columns_for, show_mosaic, signed_colors
from striate.visualize.inside.filters import FilterBank, flat_kernel

_TILE = 0.42  # inches


def filters_figure(bank: FilterBank, *, title: str) -> Figure:
    """The filters of a layer, with what the colors mean beneath."""
    tiles, columns = _tiles(bank)
    rows = -(-len(tiles) // columns)
    ratio = tiles[0].shape[0] / tiles[0].shape[1]
    tile = min(1.0, max(_TILE, 5.5 / columns), 6.0 / columns * 2)
    width = max(5.5, min(11.0, columns * tile + 0.6))
    tile = min(tile, (width - 0.6) / columns)
    figure = new_figure(width, max(1.0, rows * tile * ratio * 1.06) + 0.95)
    draw_filters(figure.subplots(), bank)
    caption(figure, filter_words(bank))
    main_title(figure, title)
    return figure


def draw_filters(axes: Axes, bank: FilterBank) -> None:
    """The filters on one pair of axes: of one or three input channels in rows, else a row a filter and a column an
    input channel."""
    tiles, columns = _tiles(bank)
    rows = -(-len(tiles) // columns)
    if bank.one:
        show_mosaic(axes, tiles, columns, rows=[str(columns * k) for k in range(rows)])
        axes.set_ylabel("input channel", fontsize=SMALL, color=FAINT)
    elif _whole(bank):
        show_mosaic(axes, tiles, columns, rows=[str(bank.units[columns * k]) for k in range(rows)])
        axes.set_ylabel("filter", fontsize=SMALL, color=FAINT)
    else:
        heads = [str(k) for k in range(columns)]
        show_mosaic(axes, tiles, columns, rows=[str(unit) for unit in bank.units], heads=heads)
        axes.set_ylabel("filter", fontsize=SMALL, color=FAINT)
        axes.set_xlabel("input channel", fontsize=SMALL, color=FAINT)
        axes.xaxis.set_label_position("top")


def filter_words(bank: FilterBank) -> str:
    """What is shown, of how much, and what the colors mean."""
    count = f"{len(bank.units)} of {bank.filters}" if len(bank.units) < bank.filters else f"All {bank.filters}"
    which = f"Filter {bank.units[0]} of {bank.filters}" if bank.one else f"{count} filters"
    shown = bank.weights.shape[1]
    if bank.channels not in (1, 3) and shown < bank.channels:
        which += f", the first {shown} of {bank.channels} input channels"
    if _color(bank):
        return f"{which}. Gray is 0; each filter is scaled by its own largest weight."
    return f"{which}. Red is above 0, blue below, white 0; each filter is scaled by its own largest weight."


def _color(bank: FilterBank) -> bool:
    return bank.channels == 3 and bank.weights.ndim == 4 and not bank.one


def _whole(bank: FilterBank) -> bool:
    return bank.channels == 1 or _color(bank)


def _tiles(bank: FilterBank) -> tuple[list[Picture], int]:
    tiles: list[Picture] = []
    for weights in bank.weights:
        most = float(np.abs(weights).max()) or 1.0
        if _color(bank):
            tiles.append(np.moveaxis(0.5 + 0.5 * weights.astype(np.float64) / most, 0, -1))
        else:
            tiles += [signed_colors(flat_kernel(kernel), most) for kernel in weights]
    if bank.one or _whole(bank):
        return tiles, columns_for(len(tiles), *tiles[0].shape[:2])
    return tiles, bank.weights.shape[1]
