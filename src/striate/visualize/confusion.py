"""Which class was taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.visualize.canvas import BLUE, FAINT, INK, SMALL, TEXT, main_title, name_axes, new_figure, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

COUNTED = 20
"""Up to so many classes each cell shows its count."""
LABELED = 100
"""Of more classes only every second, third, … is named."""
_LETTERS = 24


def confusion_figure(confusion: ArrayLike, classes: Sequence[str], *, title: str) -> Figure:
    """The matrix with the recall of each class at its side, in a size that keeps every name readable.

    `confusion`: (K, K) counts, a row a true class, a column a predicted one.
    """
    counts = np.asarray(confusion)
    size, room = _size(counts, classes)
    figure = new_figure(size + room + 2.0, size + room + 1.05)
    matrix, side = figure.subplots(1, 2, width_ratios=(size, 1.5), sharey=True)
    colors = draw_confusion(matrix, counts, classes)
    draw_recall(side, counts)
    if len(counts) > COUNTED:
        bar = figure.colorbar(colors, ax=[matrix, side], location="right", shrink=0.4, aspect=30)
        bar.set_ticks([0, 0.01, 0.05, 0.2, 0.5, 1], labels=["0", "1", "5", "20", "50", "100 %"])
        bar.ax.tick_params(labelsize=SMALL)
    main_title(figure, title)
    return figure


def draw_confusion(axes: Axes, confusion: ArrayLike, classes: Sequence[str]) -> AxesImage:
    """Color: share of the true class (row); numbers: counts other than 0, up to 20 classes.

    Of more classes rare mistakes would vanish: there the color follows the square root of the share.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    # From transparent to blue: on a dark page too, a cell without samples has the color of the page.
    shades = LinearSegmentedColormap.from_list("shades", [f"{BLUE}00", BLUE])
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    count = len(counts)
    scale = PowerNorm(1.0 if count <= COUNTED else 0.5, vmin=0, vmax=1)
    colors = axes.imshow(shares, cmap=shades, norm=scale, aspect="auto", interpolation="nearest")
    if count <= COUNTED:
        _write_counts(axes, counts, shares)
    step = -(-count // LABELED)
    places = range(0, count, step)
    names = [shorten(classes[place], _LETTERS) for place in places]
    font = _label_font(count)
    upright = max(map(len, names), default=0) > 3 or count > COUNTED
    axes.set_xticks(places, names, rotation=90 if upright else 0, fontsize=font, parse_math=False)
    axes.set_yticks(places, names, fontsize=font, parse_math=False)
    axes.tick_params(length=0)
    if count <= LABELED:
        _draw_cells(axes, count)
    name_axes(axes, "predicted class\n(color: share of the true class)", "true class")
    return colors


def draw_recall(axes: Axes, confusion: ArrayLike) -> None:
    """A bar a class: the share of its samples that were recognized, with n where there is room."""
    counts = np.asarray(confusion)
    totals = counts.sum(1)
    recall = counts.diagonal() / np.maximum(totals, 1)
    axes.barh(np.arange(len(counts)), recall, height=0.72, color=BLUE, alpha=0.35)
    if len(counts) <= COUNTED:
        for row, (share, n) in enumerate(zip(recall, totals, strict=True)):
            text = f"{share:.1%} of {n:,}".replace("%", " %") if n else "no samples"
            axes.text(0.04, row, text, va="center", fontsize=SMALL, color=INK)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "50", "100 %"], fontsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", left=False, labelleft=False)
    name_axes(axes, "recall")


def _size(counts: NDArray[Any], classes: Sequence[str]) -> tuple[float, float]:
    """Inches for the square matrix and for the names beside it."""
    count = min(len(counts), LABELED)
    letters = len(f"{int(counts.max(initial=0)):,}")
    cell = max(0.36, letters * 0.095) if count <= COUNTED else (_label_font(count) + 2.5) / 72
    longest = max((len(shorten(name, _LETTERS)) for name in classes), default=1)
    return max(2.9, count * cell), longest * _label_font(count) * 0.62 / 72


def _label_font(count: int) -> float:
    return TEXT if count <= 10 else SMALL if count <= 40 else 7.0


def _write_counts(axes: Axes, counts: NDArray[Any], shares: NDArray[Any]) -> None:
    for row, column in np.argwhere(counts):
        color = "white" if shares[row, column] > 0.7 else INK
        text = f"{counts[row, column]:,}"
        axes.text(column, row, text, ha="center", va="center", fontsize=SMALL, color=color)


def _draw_cells(axes: Axes, count: int) -> None:
    """Thin lines between the cells, so that an empty row can be followed to its name."""
    edges = np.arange(count + 1) - 0.5
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    axes.grid(True, which="minor", color=FAINT, linewidth=0.4, alpha=0.35)
    axes.tick_params(which="minor", length=0)
