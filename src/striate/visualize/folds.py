"""A metric of each fold of a cross-validation, and the curves of all folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from striate.visualize.canvas import (
    BLUE,
    FAINT,
    VERMILION,
    figure_of,
    heading,
    legend,
    limit_ticks,
    logarithmic,
    main_title,
    name_axes,
    new_figure,
    quiet_frame,
    show_percent,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = 0.34  # inches for a repeat


def folds_figure(
    values: Sequence[Sequence[float]], *, metric: str, title: str, share: bool, mean: float, std: float | None
) -> Figure:
    """A row a repeat, a dot a fold; equal folds lie above one another. A tick marks the repeat's mean, the line and the
    band the mean of all folds with one standard deviation each way. A `share` is drawn in percent."""
    draw = partial(draw_folds, values=values, metric=metric, share=share, mean=mean, std=std)
    return figure_of(draw, 6.2, 1.35 + _PANEL * len(values), title)


def draw_folds(
    axes: Axes, values: Sequence[Sequence[float]], *, metric: str, share: bool, mean: float, std: float | None
) -> None:
    """The rows of `folds_figure` on one pair of axes."""
    for row, measured in enumerate(values, 1):
        numbers = np.sort(np.asarray(measured, np.float64))
        axes.plot(numbers, row + _apart(numbers), "o", color=BLUE, markersize=5, alpha=0.7, linestyle="none")
        axes.plot([numbers.mean()] * 2, [row - 0.32, row + 0.32], color=VERMILION, linewidth=2)
    axes.axvline(mean, color=FAINT, linestyle="--", linewidth=1.2, zorder=0)
    if std is not None:
        axes.axvspan(mean - std, mean + std, color=FAINT, alpha=0.15, linewidth=0, zorder=0)
    quiet_frame(axes)
    axes.set_ylim(len(values) + 0.6, 0.4)
    limit_ticks(axes.yaxis, min(10, len(values) + 1), whole=True)
    if share:
        show_percent(axes.xaxis)
    limit_ticks(axes.xaxis, 6)
    name_axes(axes, f"{metric} of each held-out fold", "repeat")


def _apart(numbers: np.ndarray) -> np.ndarray:
    """(J,) small heights for sorted `numbers`, so that equal ones do not hide each other."""
    heights = np.zeros(len(numbers))
    for value in np.unique(numbers):
        equal = numbers == value
        count = int(equal.sum())
        heights[equal] = (np.arange(count) - (count - 1) / 2) * min(0.14, 0.56 / max(1, count))
    return heights


def fold_curves_figure(curves: Sequence[Sequence[Mapping[str, float | None]]], *, metric: str, title: str) -> Figure:
    """Loss and `metric` against the epoch: a thin line a fold, a thick one for their mean, on the training part and on
    the validation part. Each of `curves` has the rows of metrics.csv."""
    figure = new_figure(5.6, 5.4)
    panels = figure.subplots(2, 1, sharex=True)
    for axes, quantity in zip(panels, ("loss", metric), strict=True):
        draw_fold_curves(axes, curves, quantity)
    legend(panels[0])
    name_axes(panels[1], "epoch")
    limit_ticks(panels[1].xaxis, whole=True)
    main_title(figure, title)
    return figure


def draw_fold_curves(axes: Axes, curves: Sequence[Sequence[Mapping[str, float | None]]], quantity: str) -> None:
    """One quantity of `fold_curves_figure`; a loss that falls twentyfold on a logarithmic axis."""
    for part, color, style in (("train", BLUE, "-"), ("val", VERMILION, "--")):
        table = _aligned(curves, f"{part}_{quantity}")
        epochs = np.arange(1, table.shape[1] + 1)
        marker = "o" if table.shape[1] == 1 else ""
        axes.plot(epochs, table.T, color=color, linewidth=0.5, alpha=0.3, marker=marker, markersize=3)
        # Folds that stopped early are not in the mean of what came after: it would jump.
        everywhere = np.isfinite(table).all(0)
        mean = np.where(everywhere, np.where(everywhere, table, 0).mean(0), np.nan)
        axes.plot(epochs, mean, color=color, linestyle=style, linewidth=2, marker=marker, label=part)
    quiet_frame(axes)
    heading(axes, quantity.replace("_", " "))
    positive = _aligned(curves, "train_loss")
    if quantity == "loss" and np.nanmin(positive) > 0 and np.nanmax(positive) / np.nanmin(positive) > 20:
        logarithmic(axes)
        heading(axes, "loss (logarithmic)")


def _aligned(curves: Sequence[Sequence[Mapping[str, float | None]]], key: str) -> np.ndarray:
    """(folds, epochs) one quantity, NaN where a fold has none."""
    table = np.full((len(curves), max(len(rows) for rows in curves)), np.nan)
    for line, rows in enumerate(curves):
        values = [row.get(key) for row in rows]
        table[line, : len(values)] = [np.nan if value is None else value for value in values]
    return table
