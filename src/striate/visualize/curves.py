"""Loss, metric and learning rate against the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.visualize.canvas import (
    BLUE,
    FAINT,
    VERMILION,
    heading,
    legend,
    limit_ticks,
    logarithmic,
    main_title,
    name_axes,
    new_figure,
    quiet_frame,
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
_LOG_FROM = 20
"""A loss that falls by more than this factor is drawn on a logarithmic axis."""


def curves_figure(rows: Sequence[Row], *, metric: str, title: str, best_epoch: float | None = None) -> Figure:
    """Panels under one another: loss, `metric`, what else was followed (`further_quantities`), learning rate.

    Each row is an epoch with the keys `epoch`, `lr`, `train_loss`, `val_loss`, `train_<metric>` and
    `val_<metric>`; what is missing, None or not finite leaves a gap. `best_epoch` is marked by a line.
    """
    further = further_quantities(rows, metric)
    figure = new_figure(5.6, 6.4 + 1.7 * len(further))
    panels = figure.subplots(3 + len(further), 1, sharex=True, height_ratios=(3, 3, *[2] * len(further), 1.3))
    draw_curve(panels[0], rows, "loss", log="auto")
    draw_curve(panels[1], rows, metric)
    for axes, quantity in zip(panels[2:], further, strict=False):
        draw_curve(axes, rows, quantity)
    draw_rate(panels[-1], rows)
    for axes in panels:
        if best_epoch is not None:
            axes.axvline(best_epoch, color=FAINT, linestyle=":", linewidth=1.4, label="best epoch", zorder=1)
    legend(panels[0])
    name_epochs(panels[-1], rows)
    main_title(figure, title)
    return figure


def further_quantities(rows: Sequence[Row], metric: str) -> list[str]:
    """What was followed beside the task: `<layer>_<metric>` of inner classifiers, `rotation_accuracy` and
    `hidden_sparsity`, in the order of the columns."""
    names = dict.fromkeys(key.removeprefix("val_") for row in rows for key in row if key.startswith("val_"))
    return [name for name in names if name.endswith(f"_{metric}") or name in ("rotation_accuracy", "hidden_sparsity")]


def draw_curve(axes: Axes, rows: Sequence[Row], quantity: str, *, log: bool | str = False) -> None:
    """`train_<quantity>` and `val_<quantity>` against the epoch; `log="auto"` decides by the range."""
    epochs = _column(rows, "epoch")
    drawn = []
    for part, style in _STYLES.items():
        values = _column(rows, f"{part}_{quantity}")
        if np.isfinite(values).any():
            drawn.append(values[np.isfinite(values)])
            _line(axes, epochs, values, label=part, **style)
    quiet_frame(axes)
    name = quantity.replace("_", " ")
    together = np.concatenate(drawn) if drawn else np.ones(1)
    if log == "auto":
        log = bool(together.min() > 0 and together.max() / together.min() > _LOG_FROM)
    if log:
        logarithmic(axes)
    heading(axes, f"{name} (logarithmic)" if log else name)
    if not drawn:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=FAINT)


def name_epochs(axes: Axes, rows: Sequence[Row]) -> None:
    """The horizontal axis: whole epochs, with room on both sides where there is only one."""
    name_axes(axes, "epoch")
    limit_ticks(axes.xaxis, whole=True)
    if len(rows) == 1:
        only = float(rows[0]["epoch"] or 0)
        axes.set_xlim(only - 1, only + 1)


def draw_rate(axes: Axes, rows: Sequence[Row]) -> None:
    """The learning rate, column `lr`, against the epoch."""
    rates = _column(rows, "lr")
    _line(axes, _column(rows, "epoch"), rates, color=FAINT, marker=".")
    quiet_frame(axes)
    show_plain_numbers(axes.yaxis)
    limit_ticks(axes.yaxis, 3)
    highest = max((value for value in rates if np.isfinite(value)), default=1.0)
    axes.set_ylim(0, 1.15 * highest or 1.0)
    heading(axes, "learning rate")


def _line(axes: Axes, epochs: NDArray[np.float64], values: NDArray[np.float64], **style: Any) -> None:
    # Without markers a single epoch, or one between two gaps, would be invisible.
    if len(epochs) > _MARKED_EPOCHS:
        style["marker"] = ""
    axes.plot(epochs, values, linewidth=1.6, markersize=4, **style)


def _column(rows: Sequence[Row], key: str) -> NDArray[np.float64]:
    """One column as float64, what is missing or not finite as NaN."""
    values = [row.get(key) for row in rows]
    column = np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)
    return np.where(np.isfinite(column), column, np.nan)
