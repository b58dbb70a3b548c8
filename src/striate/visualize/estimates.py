"""Numbers with their intervals: slices, baselines, the bias of a regression; and predicted against true numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from striate.visualize.canvas import (
    BLUE,
    FAINT,
    INK,
    SMALL,
    TEXT,
    VERMILION,
    figure_of,
    heading,
    legend,
    main_title,
    name_axes,
    new_figure,
    quiet_frame,
    shorten,
)
from striate.wording import number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = 24
"""Largest number of slices that are drawn: first those that differ, then the others in their order."""
_LETTERS = 26


def draw_slices(axes: Axes, slices: Sequence[Mapping[str, Any]], overall: float, *, figure: str = "accuracy") -> None:
    """A point a slice with its 95 % interval; the dashed line is the figure over all samples.

    `slices` as in evaluation.json. Squares: differs from all other samples by more than chance.
    """
    order = sorted(range(len(slices)), key=lambda place: not slices[place]["differs"])[:SHOWN]
    shown = [slices[place] for place in sorted(order)]
    axes.axvline(overall, color=FAINT, linestyle="--", linewidth=1.2, label="all samples")
    for differs, color, marker, label in ((False, BLUE, "o", None), (True, VERMILION, "s", "differs from the rest")):
        places = [place for place, entry in enumerate(shown) if entry["differs"] == differs]
        _draw_points(axes, [shown[place]["value"] for place in places], places, color, marker, label)
    names = [shorten(f"{entry['by']} {entry['name']}", _LETTERS) for entry in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=SMALL, parse_math=False)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    quiet_frame(axes)
    name_axes(axes, figure)
    legend(axes, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def draw_bias(axes: Axes, ranges: Sequence[Mapping[str, Any]], name: str = "") -> None:
    """Mean of predicted minus true in each range of true values, with its 95 % interval. `ranges` as in
    evaluation.json, in the units of the data."""
    axes.axvline(0, color=FAINT, linestyle="--", linewidth=1.2)
    _draw_points(axes, [part["metrics"]["bias"] for part in ranges], range(len(ranges)), BLUE, "o", None)
    labels = [f"{number(part['low'])} to {number(part['high'])}" for part in ranges]
    axes.set_yticks(range(len(ranges)), labels, fontsize=SMALL)
    axes.set_ylim(-0.6, len(ranges) - 0.4)
    quiet_frame(axes)
    name_axes(axes, "bias: mean of predicted minus true", f"true {shorten(name, _LETTERS)}".strip())


def _draw_points(
    axes: Axes,
    figures: Sequence[Mapping[str, Any]],
    places: Sequence[int],
    color: str,
    marker: str,
    label: str | None,
) -> None:
    if not figures:
        return
    x = np.array([figure["value"] for figure in figures], np.float64)
    ends = np.array([figure["interval"] or (figure["value"],) * 2 for figure in figures], np.float64)
    axes.errorbar(
        x,
        list(places),
        xerr=np.abs(ends.T - x),
        color=color,
        marker=marker,
        linestyle="none",
        markersize=5,
        label=label,
    )


_METHOD_LETTERS = 28
_TEXT_ROOM = 0.3


def baselines_figure(
    names: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    *,
    metric: str,
    title: str,
    share: bool,
) -> Figure:
    """A row a method, the network first and in another color; `values` and `intervals` are those of `metric`.

    A `share` lies between 0 and 1 and is drawn in percent; other metrics start at 0.
    """
    draw = partial(draw_baselines, names=names, values=values, intervals=intervals, metric=metric, share=share)
    return figure_of(draw, 6.6, 1.25 + 0.36 * len(names), title)


def draw_baselines(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float] | None],
    *,
    metric: str,
    share: bool,
) -> None:
    """The rows of `baselines_figure` on one pair of axes."""
    reach = max(*values, *(ends[1] for ends in intervals if ends is not None))
    high = 1.0 if share else 1.05 * reach or 1.0
    for row, (value, interval) in enumerate(zip(values, intervals, strict=True)):
        color = VERMILION if row == 0 else BLUE
        if interval is not None:
            axes.plot(interval, (row, row), color=color, linewidth=2.2, solid_capstyle="round", alpha=0.55)
        axes.plot(value, row, marker="D" if row == 0 else "o", color=color, markersize=7)
        text = percent(value) if share else number(value)
        axes.text(high * 1.04, row, text, va="center", fontsize=TEXT, color=INK, clip_on=False)
    axes.axvline(values[0], color=FAINT, linestyle=":", linewidth=1.2, zorder=0)
    axes.set_yticks(range(len(names)), [shorten(name, _METHOD_LETTERS) for name in names], fontsize=TEXT)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(-0.02 * high if not share else 0, high * (1 + _TEXT_ROOM * 0.1))
    if share:
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100 %"])
    quiet_frame(axes, grid="x")
    axes.tick_params(axis="y", length=0, labelsize=TEXT)
    whiskers = any(interval is not None for interval in intervals)
    name_axes(axes, f"{metric}{', with its 95 % interval' if whiskers else ''}")


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
    # Many points stay readable if they are small and translucent.
    many = len(truth) > 300
    axes.scatter(truth, outputs, s=9 if many else 22, alpha=0.35 if many else 0.65, color=BLUE, linewidths=0)
    axes.set(xlim=span, ylim=span, aspect="equal")
    quiet_frame(axes)
    rmse = float(np.sqrt(np.mean((outputs - truth) ** 2)))
    heading(axes, f"{shorten(name, 22)}   RMSE {number(rmse)}".strip())
    name_axes(axes, "true", "predicted")
    legend(axes, loc="upper left")
