"""Loss, metric and learning rate against the epoch, of one training and of all folds of a cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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
    show_plain_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, float | None]
_STYLES = {
    "train": {"color": BLUE, "linestyle": "-", "marker": "o"},
    "val": {"color": VERMILION, "linestyle": "--", "marker": "s"},
}
_MARKED_EPOCHS = 30
_FOLLOWED = ("rotation_accuracy", "hidden_sparsity", "free_energy", "code_energy", "hidden_activity")
_LOG_FROM = 20
"""A loss that falls by more than this factor is drawn on a logarithmic axis."""


def curves_figure(
    rows: Sequence[Row],
    *,
    metric: str,
    title: str,
    best_epoch: float | None = None,
    name: str = "",
    share: bool = False,
) -> Figure:
    """Panels one under the other: loss, `metric`, further quantities (`further_quantities`), learning rate.

    Each row is an epoch with the keys `epoch`, `lr`, `train_loss`, `val_loss`, `train_<metric>` and `val_<metric>`;
    values that are missing, None or not finite leave a gap. `best_epoch` is marked by a line. Rows without `epoch` are
    drawn against their `step`, without gaps. `name`: how the metric is called; a `share` is drawn in percent.
    """
    further = further_quantities(rows, metric)
    figure = new_figure(5.6, 6.4 + 1.7 * len(further))
    panels = figure.subplots(3 + len(further), 1, sharex=True, height_ratios=(3, 3, *[2] * len(further), 1.3))
    draw_curve(panels[0], rows, "loss", log="auto")
    for axes, quantity in zip(panels[1:], (metric, *further), strict=False):
        called, percent = quantity_name(quantity, metric, name, share)
        draw_curve(axes, rows, quantity, name=called, share=percent)
    draw_rate(panels[-1], rows)
    for axes in panels:
        if best_epoch is not None:
            axes.axvline(best_epoch, color=FAINT, linestyle=":", linewidth=1.4, label="best epoch", zorder=1)
    legend(panels[0])
    name_epochs(panels[-1], rows)
    main_title(figure, title)
    return figure


def further_quantities(rows: Sequence[Row], metric: str) -> list[str]:
    """Columns in addition to loss and metric: `<layer>_<metric>` of inner classifiers, and those of `_FOLLOWED`, in the
    order of the table."""
    names = dict.fromkeys(key.removeprefix("val_") for row in rows for key in row if key.startswith("val_"))
    return [name for name in names if name.endswith(f"_{metric}") or name in _FOLLOWED]


def quantity_name(quantity: str, metric: str, name: str, share: bool) -> tuple[str, bool]:
    """What a curve is called, and whether it is drawn in percent: an inner classifier's `<layer>_<metric>` like the
    `metric`, which has a `name` and may be a `share`."""
    layer = quantity.removesuffix(metric)
    if layer == quantity:
        return quantity.replace("_", " "), False
    return layer.replace("_", " ") + (name or metric.replace("_", " ")), share


def axis_of(rows: Sequence[Row]) -> str:
    """The horizontal axis of curves: the epoch, or the step if rows are not epochs."""
    return "epoch" if "epoch" in rows[0] else "step"


def by_step(epochs: Sequence[Row], steps: Sequence[Row]) -> list[Row]:
    """The rows of a training of few epochs by step: losses and rates from `steps`, the rest from `epochs`, at their
    last steps."""
    measured = [
        {key: value for key, value in row.items() if key not in ("epoch", "train_loss", "lr")} for row in epochs
    ]
    return sorted([*steps, *measured], key=lambda row: row["step"] or 0)


def draw_curve(
    axes: Axes, rows: Sequence[Row], quantity: str, *, log: bool | str = False, name: str = "", share: bool = False
) -> None:
    """`train_<quantity>` and `val_<quantity>` against the epoch; `log="auto"` decides by the range. `name`: the
    heading; a `share` is drawn in percent."""
    epochs = _column(rows, axis_of(rows))
    drawn = []
    for part, style in _STYLES.items():
        values = _column(rows, f"{part}_{quantity}")
        if np.isfinite(values).any():
            drawn.append(values[np.isfinite(values)])
            _line(axes, epochs, values, label=part, gaps=axis_of(rows) == "epoch", **style)
    quiet_frame(axes)
    if share:
        show_percent(axes.yaxis)
    name = name or quantity.replace("_", " ")
    together = np.concatenate(drawn) if drawn else np.ones(1)
    if log == "auto":
        log = bool(together.min() > 0 and together.max() / together.min() > _LOG_FROM)
    if log:
        logarithmic(axes)
    elif drawn and together.min() == together.max() > 0:  # else a constant share of 1 lies in the middle, below 1.04
        axes.set_ylim(0, 1.05 * together.max())
    heading(axes, f"{name} (logarithmic)" if log else name)
    if not drawn:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=FAINT)


def name_epochs(axes: Axes, rows: Sequence[Row]) -> None:
    """The horizontal axis: whole epochs, with room on both sides if there is only one; or steps, from the first."""
    axis = axis_of(rows)
    name_axes(axes, axis)
    limit_ticks(axes.xaxis, whole=True)
    if axis == "step":
        axes.set_xlim(0, 1.04 * max(float(row["step"] or 0) for row in rows))
    elif len(rows) == 1:
        only = float(rows[0]["epoch"] or 0)
        axes.set_xlim(only - 1, only + 1)


def draw_rate(axes: Axes, rows: Sequence[Row]) -> None:
    """The learning rate, column `lr`, against the epoch."""
    rates = _column(rows, "lr")
    axis = axis_of(rows)
    _line(axes, _column(rows, axis), rates, gaps=axis == "epoch", color=FAINT, marker=".")
    quiet_frame(axes)
    show_plain_numbers(axes.yaxis)
    limit_ticks(axes.yaxis, 3)
    highest = max((value for value in rates if np.isfinite(value)), default=1.0)
    axes.set_ylim(0, 1.15 * highest or 1.0)
    heading(axes, "learning rate")


def _line(axes: Axes, epochs: NDArray[np.float64], values: NDArray[np.float64], *, gaps: bool, **style: Any) -> None:
    if not gaps:
        epochs, values = epochs[np.isfinite(values)], values[np.isfinite(values)]
    # Without markers a single epoch, or one between two gaps, would be invisible.
    if len(epochs) > _MARKED_EPOCHS:
        style["marker"] = ""
    axes.plot(epochs, values, linewidth=1.6, markersize=4, **style)


def _column(rows: Sequence[Row], key: str) -> NDArray[np.float64]:
    """One column as float64; values that are missing or not finite are NaN."""
    values = [row.get(key) for row in rows]
    column = np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
    return np.where(np.isfinite(column), column, np.nan)


_PANEL = 0.34  # inches for a repeat


def folds_figure(
    values: Sequence[Sequence[float]], *, metric: str, title: str, share: bool, mean: float, std: float | None
) -> Figure:
    """A row for each repeat, a dot for each fold; equal folds are stacked. A tick marks the mean of the repeat, the
    line and the band the mean of all folds ± one standard deviation. A `share` is drawn in percent."""
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


def fold_curves_figure(
    curves: Sequence[Sequence[Mapping[str, float | None]]],
    *,
    metric: str,
    title: str,
    name: str = "",
    share: bool = False,
) -> Figure:
    """Loss and `metric` against the epoch: a thin line for each fold, a thick one for their mean, of training and of
    validation. Each of `curves` has the rows of metrics.csv. `name`: how the metric is called; a `share` is drawn in
    percent."""
    figure = new_figure(5.6, 5.4)
    panels = figure.subplots(2, 1, sharex=True)
    for axes, quantity in zip(panels, ("loss", metric), strict=True):
        draw_fold_curves(axes, curves, quantity)
    heading(panels[1], name or metric.replace("_", " "))
    if share:
        show_percent(panels[1].yaxis)
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
        # The mean leaves out epochs that some fold does not have: otherwise it would jump.
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
