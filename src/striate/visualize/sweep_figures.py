"""A search over configurations: score by trial, score by each field, and what each field explains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from striate.visualize.canvas import (
    BLUE,
    FAINT,
    GREEN,
    SMALL,
    VERMILION,
    figure_of,
    heading,
    legend,
    limit_ticks,
    main_title,
    name_axes,
    new_figure,
    quiet_frame,
    shorten,
    show_plain_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RUNGS = (FAINT, GREEN, BLUE)
_MARKS = ("o", "s", "D")
_COLUMNS = 3
_CHOICES = 8
"""Largest number of choices that are named below the axis; of more, every second, third, … is named."""


@dataclass(frozen=True)
class Point:
    """A trial."""

    number: int
    """Number of the trial."""
    scores: tuple[float, ...]
    """The metric after each of its trainings, the cheapest first."""
    fields: Mapping[str, object]
    """The value of each field."""


@dataclass(frozen=True)
class Dimension:
    """A field that was searched."""

    field: str
    """The field by name."""
    low: float = 0.0
    """The smallest value of a number."""
    high: float = 1.0
    """The largest value of a number."""
    log: bool = False
    """Whether the axis is logarithmic."""
    whole: bool = False
    """Whether values are whole numbers."""
    choices: tuple[str, ...] = ()
    """The named values; empty for numbers."""


def progress_figure(
    points: Sequence[Point], rungs: Sequence[str], *, metric: str, title: str, lower: bool = False
) -> Figure:
    """The metric of every training against the number of its trial, with a mark and color for each rung, and the best
    full training so far as a line. `rungs` name the budgets; `lower`: whether lower is better."""
    figure = new_figure(6.4, 4.1)
    draw_progress(figure.subplots(), points, rungs, metric=metric, lower=lower)
    legend(figure, loc="outside lower left", ncols=len(rungs) + 1)
    main_title(figure, title)
    return figure


def draw_progress(
    axes: Axes, points: Sequence[Point], rungs: Sequence[str], *, metric: str, lower: bool = False
) -> None:
    """The marks of `progress_figure` on one pair of axes."""
    shown = _limits(points, lower)
    for rung, name in enumerate(rungs):
        there = [(p.number, p.scores[rung]) for p in points if len(p.scores) > rung]
        if there:
            _mark(axes, [x for x, _ in there], [y for _, y in there], rung, name, shown)
    whole = [(p.number, p.scores[-1]) for p in points if len(p.scores) == len(rungs)]
    if whole:
        x, y = np.array(whole, dtype=np.float64).T
        best = np.minimum.accumulate(y) if lower else np.maximum.accumulate(y)
        last = max(p.number for p in points)
        axes.step([*x, last], [*best, best[-1]], where="post", color=VERMILION, linewidth=1.4, label="best so far")
    if shown is not None:
        axes.set_ylim(shown)
    limit_ticks(axes.xaxis, whole=True)
    name_axes(axes, "trial")
    quiet_frame(axes)
    heading(axes, f"validation {metric}")


def slices_figure(
    points: Sequence[Point], dimensions: Sequence[Dimension], rungs: Sequence[str], *, metric: str, title: str,
    lower: bool = False,
) -> Figure:  # fmt: skip
    """One panel for each field: the metric of every training against the field's value, with a mark and color for each
    rung."""
    columns = 2 if len(dimensions) == 4 else min(_COLUMNS, len(dimensions))
    rows, shown = -(-len(dimensions) // columns), _limits(points, lower)
    figure = new_figure(max(5.2, 3.3 * columns), 3.1 * rows + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for place, axes in enumerate(grid):
        if place >= len(dimensions):
            axes.set_axis_off()
            continue
        draw_slice(axes, points, dimensions[place], rungs, lower=lower)
        if place % columns == 0:
            name_axes(axes, y=f"validation {metric}")
    if shown is not None:
        grid[0].set_ylim(shown)
    handles, labels = grid[0].get_legend_handles_labels()
    legend(figure, handles, labels, loc="outside lower left", ncols=len(labels))
    main_title(figure, title)
    return figure


def importance_figure(shares: Mapping[str, float], *, title: str) -> Figure:
    """A bar a field, the longest on top: the share of the scores' variance that it explains."""
    return figure_of(lambda axes: draw_importance(axes, shares), 5.6, 0.34 * len(shares) + 1.1, title)


def draw_importance(axes: Axes, shares: Mapping[str, float]) -> None:
    """The bars of `importance_figure` on one pair of axes."""
    ordered = sorted(shares.items(), key=lambda item: item[1])
    names = [shorten(name, 28) for name, _ in ordered]
    bars = axes.barh(names, [100 * share for _, share in ordered], color=BLUE, height=0.6)
    axes.bar_label(bars, fmt="%.0f %%", fontsize=SMALL, padding=3)
    axes.set_xlim(0, 112)
    quiet_frame(axes)
    name_axes(axes, "% of the variance", size=SMALL)


def draw_slice(
    axes: Axes, points: Sequence[Point], dimension: Dimension, rungs: Sequence[str], *, lower: bool = False
) -> None:
    """One panel of `slices_figure`, without the limits of its vertical axis, which all panels share."""
    shown = _limits(points, lower)
    for rung, name in enumerate(rungs):
        there = [p for p in points if len(p.scores) > rung]
        if not there:
            continue
        x = [_position(p, dimension) for p in there]
        y = [p.scores[rung] for p in there]
        _mark(axes, x, y, rung, name, shown)
    if dimension.choices:
        every = -(-len(dimension.choices) // _CHOICES)
        places = range(0, len(dimension.choices), every)
        axes.set_xticks(list(places), [shorten(dimension.choices[k], 12) for k in places])
        axes.set_xlim(-0.5, len(dimension.choices) - 0.5)
        if max(map(len, dimension.choices)) > 6 and len(dimension.choices) > 2:
            axes.tick_params(axis="x", rotation=20)
    elif dimension.log:
        from matplotlib.ticker import LogLocator

        axes.set_xscale("log")
        axes.set_xlim(dimension.low / 1.2, dimension.high * 1.2)
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        show_plain_numbers(axes.xaxis)
    else:
        margin = 0.06 * (dimension.high - dimension.low)
        axes.set_xlim(dimension.low - margin, dimension.high + margin)
        limit_ticks(axes.xaxis, 5, whole=dimension.whole)
    quiet_frame(axes)
    heading(axes, shorten(dimension.field, 24))


def _position(point: Point, dimension: Dimension) -> float:
    value = point.fields[dimension.field]
    if not dimension.choices:
        return float(value)  # type: ignore[arg-type]
    # Side by side, so that trials with equal choices do not overlap.
    offset = (point.number * 0.618034 % 1 - 0.5) * 0.3
    return dimension.choices.index(str(value)) + offset


def _limits(points: Sequence[Point], lower: bool) -> tuple[float, float] | None:
    """The limits of the axis if some trials are so bad that the good ones would be indistinguishable; None if all
    fit."""
    values = np.array([score for p in points for score in p.scores], dtype=np.float64)
    if len(values) < 4:
        return None
    good, half = (values.min() if lower else values.max()), float(np.median(values))
    reach = 2.5 * abs(half - good)
    worst = values.max() if lower else values.min()
    if reach == 0 or abs(worst - good) <= 1.5 * reach:
        return None
    return (good - 0.1 * reach, good + reach) if lower else (good - reach, good + 0.1 * reach)


def _mark(
    axes: Axes, x: Sequence[float], y: Sequence[float], rung: int, name: str, shown: tuple[float, float] | None
) -> None:
    """The trainings of one rung; those outside the limits are triangles at the edge."""
    places, values = np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
    low, high = shown or (-np.inf, np.inf)
    inside = (values >= low) & (values <= high)
    color, alpha = _RUNGS[rung], 0.85
    axes.scatter(
        places[inside], values[inside], s=22, color=color, marker=_MARKS[rung], alpha=alpha, linewidths=0, label=name
    )
    for outside, edge, marker in ((values < low, low, "v"), (values > high, high, "^")):
        if outside.any():
            at = np.full(int(outside.sum()), edge)
            axes.scatter(
                places[outside], at, s=26, color=color, marker=marker, alpha=alpha, linewidths=0, clip_on=False
            )
