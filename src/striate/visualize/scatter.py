"""Predicted against true numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from striate.visualize.canvas import (
    BLUE,
    FAINT,
    heading,
    legend,
    main_title,
    name_axes,
    new_figure,
    quiet_frame,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def scatter_figure(predicted: ArrayLike, true: ArrayLike, names: Sequence[str], *, title: str) -> Figure:
    """One panel a target; `predicted` and `true` are (N, T), or (N,) for one target, in the data's units."""
    outputs, truth = (np.asarray(a, dtype=np.float64).reshape(len(np.asarray(a)), -1) for a in (predicted, true))
    targets = outputs.shape[1]
    columns = min(3, targets)
    rows = -(-targets // columns)
    figure = new_figure(max(5.0, 3.8 * columns), 4.6 if rows == columns == 1 else 4.0 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, axes in enumerate(grid):
        if place < targets:
            draw_scatter(axes, outputs[:, place], truth[:, place], names[place] if names else "")
        else:
            axes.set_axis_off()
    main_title(figure, title)
    return figure


def draw_scatter(axes: Axes, predicted: ArrayLike, true: ArrayLike, name: str = "") -> None:
    """Points (N,) against the diagonal of perfect predictions, with the root mean squared error."""
    outputs, truth = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    low = float(min(outputs.min(), truth.min()))
    high = float(max(outputs.max(), truth.max()))
    margin = 0.05 * (high - low) or 0.5
    span = (low - margin, high + margin)
    axes.plot(span, span, color=FAINT, linestyle="--", linewidth=1.2, label="predicted = true")
    # Many points stay readable where they are small and let each other through.
    many = len(truth) > 300
    axes.scatter(truth, outputs, s=9 if many else 22, alpha=0.35 if many else 0.65, color=BLUE, linewidths=0)
    axes.set(xlim=span, ylim=span, aspect="equal")
    quiet_frame(axes)
    rmse = float(np.sqrt(np.mean((outputs - truth) ** 2)))
    heading(axes, f"{shorten(name, 22)}   RMSE {rmse:.4g}".strip())
    name_axes(axes, "true", "predicted")
    legend(axes, loc="upper left")
