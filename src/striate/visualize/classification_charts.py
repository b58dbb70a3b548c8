"""Charts of a classifier: confusion matrix, ROC and precision–recall curves, reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.visualize.canvas import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    SMALL,
    TEXT,
    VERMILION,
    legend_below,
    main_title,
    name_axes,
    new_figure,
    quiet_frame,
    shorten,
)
from striate.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_COLORS = (VERMILION, BLUE, GREEN, ORANGE, INK, FAINT)
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 2)))
_NAMED = 4
"""Number of named classes if there are more classes than colors; the others are gray."""
Rows = Sequence[Mapping[str, Any]]


def draw_roc(axes: Axes, curves: Rows, classes: Rows = ()) -> None:
    """True against false positive rate; the dashed line is random guessing.

    `curves` and `classes` as in evaluation.json. Up to six classes are named; of more, the four with the lowest average
    precision in `classes`, and the others are gray. So a class has one color here and in `draw_precision_recall`.
    """
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1.2)
    _draw(axes, curves, classes, "auc", "false_positive_rate", "true_positive_rate")
    name_axes(axes, "false positive rate", "true positive rate (recall)")
    legend_below(axes, title="area under the curve", title_fontsize=SMALL)


def draw_precision_recall(axes: Axes, curves: Rows, classes: Rows = ()) -> None:
    """Precision against recall; of more than six classes the four with the lowest average precision are named."""
    _draw(axes, curves, classes, "average_precision", "recall", "precision")
    name_axes(axes, "recall", "precision")
    legend_below(axes, title="average precision", title_fontsize=SMALL)


def _areas(classes: Rows, figure: str) -> dict[str, float]:
    return {row["name"]: row[figure]["value"] for row in classes if row.get(figure) is not None}


def _draw(axes: Axes, curves: Rows, classes: Rows, figure: str, x: str, y: str) -> None:
    areas = _areas(classes, figure)
    order = _areas(classes, "average_precision") or areas
    weakest = sorted(curves, key=lambda curve: order.get(curve["name"], 0.0))
    weakest = weakest if len(curves) <= len(_COLORS) else weakest[:_NAMED]
    named = {id(curve) for curve in weakest}
    rest = [curve for curve in curves if id(curve) not in named]
    for curve in rest:
        label = f"{len(rest)} more" if curve is rest[-1] else None
        axes.plot(curve[x], curve[y], color=FAINT, linewidth=0.8, alpha=0.6, label=label)
    for curve, color, dash in zip(weakest, _COLORS, _DASHES, strict=False):
        area = areas.get(curve["name"])
        label = shorten(curve["name"], 18) + ("" if area is None else f" {area:.3f}")
        axes.plot(curve[x], curve[y], color=color, linestyle=dash, linewidth=1.6, label=label, zorder=3)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    quiet_frame(axes)


Bins = Sequence[Mapping[str, Any]]
"""`bins` of `calibration` in evaluation.json: `low high n confidence accuracy`."""
_FEW = 10
_HISTOGRAM = 0.22  # of the height, for the bars that count predictions


def draw_reliability(axes: Axes, bins: Bins, calibrated: Bins = ()) -> None:
    """Accuracy against confidence, with 95 % intervals; on the dashed line both are equal.

    Gray bars at the foot: how many predictions each bin has. `calibrated`: bins of the same predictions with a
    temperature.
    """
    total = max((part["n"] for part in bins), default=0)
    for part in bins:
        height = _HISTOGRAM * part["n"] / max(1, total)
        axes.bar(part["low"], height, part["high"] - part["low"], align="edge", color=FAINT, alpha=0.25, linewidth=0)
    axes.plot([0, 1], [0, 1], color=FAINT, linestyle="--", linewidth=1.2, label="perfectly calibrated")
    _draw_points(axes, bins, "as predicted", BLUE, "o")
    if calibrated:
        _draw_points(axes, calibrated, "after temperature scaling", VERMILION, "s")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    quiet_frame(axes)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    axes.set_xticks(ticks, ["0", "25", "50", "75", "100 %"])
    axes.set_yticks(ticks, ["0", "25", "50", "75", "100 %"])
    name_axes(axes, "confidence: probability of the predicted class", "accuracy")
    legend_below(axes)


def _draw_points(axes: Axes, bins: Bins, label: str, color: str, marker: str) -> None:
    """A point a bin; the line leaves out bins with too few predictions."""
    filled = [part for part in bins if part["n"]]
    face = color if marker == "o" else "none"
    for part in filled:
        x, y = part["confidence"], part["accuracy"]["value"]
        low, high = part["accuracy"]["interval"]
        faint = 1.0 if part["n"] >= _FEW else 0.35
        axes.plot([x, x], [low, high], color=color, linewidth=0.9, alpha=faint)
        axes.plot(x, y, color=color, marker=marker, markersize=4.5, markerfacecolor=face, alpha=faint)
    line = [part for part in filled if part["n"] >= _FEW]
    x_line, y_line = ([part["confidence"] for part in line], [part["accuracy"]["value"] for part in line])
    axes.plot(
        x_line, y_line, color=color, marker=marker, markersize=4.5, markerfacecolor=face, linewidth=1.2, label=label
    )


COUNTED = 20
"""Largest number of classes for which each cell shows its count."""
LABELED = 100
"""Of more classes, only every second, third, … is named."""
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

    With more classes the color follows the square root of the share, so that rare mistakes are visible.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    # From transparent to blue, so that a cell without samples has the color of the page, also of a dark one.
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
            text = f"{percent(share)} of {n:,}" if n else "no samples"
            axes.text(0.04, row, text, va="center", fontsize=SMALL, color=INK)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", "50", "100 %"], fontsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", left=False, labelleft=False)
    name_axes(axes, "recall")


def _size(counts: NDArray[Any], classes: Sequence[str]) -> tuple[float, float]:
    """Size in inches of the square matrix, and of the names beside it."""
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
