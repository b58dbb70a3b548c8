"""Predicted against true numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from striate.visualize.canvas import (
    BLUE,
    FAINT,
    SMALL,
    TEXT,
    heading,
    main_title,
    new_figure,
    quiet_frame,
    shorten,
)


def scatter_figure(predicted: ArrayLike, true: ArrayLike, names: Sequence[str], *, title: str) -> Figure:
    """One panel a target; `predicted` and `true` are (N, T), or (N,) for one target, in the data's units."""
    answers, truth = (np.asarray(a, dtype=np.float64).reshape(len(np.asarray(a)), -1) for a in (predicted, true))
    targets = answers.shape[1]
    columns = min(3, targets)
    rows = -(-targets // columns)
    figure = new_figure(max(5.0, 3.8 * columns), 4.6 if rows == columns == 1 else 4.0 * rows + 0.4)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, axes in enumerate(grid):
        if place < targets:
            draw_scatter(axes, answers[:, place], truth[:, place], names[place] if names else "")
        else:
            axes.set_axis_off()
    main_title(figure, title)
    return figure


def draw_scatter(axes: Axes, predicted: ArrayLike, true: ArrayLike, name: str = "") -> None:
    """Points (N,) against the diagonal of perfect answers, with the root mean squared error."""
    answers, truth = np.asarray(predicted, dtype=np.float64), np.asarray(true, dtype=np.float64)
    low = float(min(answers.min(), truth.min()))
    high = float(max(answers.max(), truth.max()))
    margin = 0.05 * (high - low) or 0.5
    span = (low - margin, high + margin)
    axes.plot(span, span, color=FAINT, linestyle="--", linewidth=1.2, label="predicted = true")
    # Many points stay readable where they are small and let each other through.
    many = len(truth) > 300
    axes.scatter(truth, answers, s=9 if many else 22, alpha=0.35 if many else 0.65, color=BLUE, linewidths=0)
    axes.set(xlim=span, ylim=span, aspect="equal")
    quiet_frame(axes)
    rmse = float(np.sqrt(np.mean((answers - truth) ** 2)))
    heading(axes, f"{shorten(name, 22)}   RMSE {rmse:.4g}".strip())
    axes.set_xlabel("true", fontsize=TEXT)
    axes.set_ylabel("predicted", fontsize=TEXT)
    axes.legend(fontsize=SMALL, frameon=False, loc="upper left")
