"""The figure of a search for a learning rate: the range test above, the trials below, on one axis of rates."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from striate.training.learning_rate.records import LearningRateSearch
from striate.visualize.canvas import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    SMALL,
    TEXT,
    VERMILION,
    heading,
    main_title,
    new_figure,
    quiet_frame,
    save_figure,
    shorten,
)
from striate.wording import several

_BEFORE = 300.0  # factor from the start of the axis to the trials: at lower rates the range test is flat
_ABOVE = 1.35  # times the highest reference loss: the axis cuts off where the range test diverges


def lr_find_figure(search: LearningRateSearch, *, title: str) -> Figure:
    """Two panels: loss of the range test, and held-out loss of each tried rate with its lowest and highest trial.

    The range of good rates for the length of the training is shaded, the suggestion is a line, the rate of the
    configuration a dashed line; rates that diverged are crosses at the upper edge.
    """
    figure = new_figure(6.4, 6.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.25))
    draw_range_test(upper, search)
    draw_trials(lower, search)
    for axes in (upper, lower):
        _mark(axes, search)
        quiet_frame(axes)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=12))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_ylabel("loss", fontsize=TEXT)
    lower.set_xlabel("learning rate", fontsize=TEXT)
    lower.set_xlim(*_span(search))
    handles, labels = lower.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
    main_title(figure, title)
    return figure


def save_lr_find(search: LearningRateSearch, data: str, model: str, path: Path) -> Path:
    """Write the figure as a PNG under a title that names data, network and optimizer. Raises RunError."""
    title = f"learning rate: {data}, {shorten(model, 28)}, {search.optimizer}"
    return save_figure(lr_find_figure(search, title=title), path)


def draw_range_test(axes: Axes, search: LearningRateSearch) -> None:
    """Loss against the rate, raw and smoothed, in a single training with a growing rate."""
    points = search.range_test
    heading(axes, "range test: one training with a learning rate that grows at each step")
    if not points:
        why = "the first loss was not finite" if search.halvings else "skipped: no time for it"
        axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", color=FAINT)
        return
    lrs = [p.lr for p in points]
    axes.plot(lrs, [p.loss for p in points], color=BLUE, alpha=0.3, linewidth=0.9)
    axes.plot(lrs, [p.smoothed for p in points], color=BLUE, linewidth=1.8)
    top = _ABOVE * max(search.start, search.constant, points[0].smoothed)
    axes.set_ylim(min(0.0, *(p.loss for p in points if math.isfinite(p.loss))), top)


def draw_trials(axes: Axes, search: LearningRateSearch) -> None:
    """Held-out loss after each trial, with the lowest and highest of its repetitions."""
    rates = search.rates
    heading(
        axes,
        f"trials of {several(search.steps, 'step')}: loss of {several(search.held_out_samples, 'held-out sample')} "
        "afterwards",
    )
    known = [r for r in rates if r.held_out is not None and r.lowest is not None and r.highest is not None]
    for good, color, label in ((True, GREEN, "trials, not significantly worse"), (False, INK, "trials, worse")):
        chosen = [r for r in known if r.good is good]
        if not chosen:
            continue
        means = np.array([r.held_out for r in chosen], dtype=float)
        below = means - np.array([r.lowest for r in chosen], dtype=float)
        above = np.array([r.highest for r in chosen], dtype=float) - means
        style: dict[str, Any] = {"color": color, "capsize": 3.0, "markersize": 5, "linewidth": 1.2}
        axes.errorbar(
            [r.lr for r in chosen], means, yerr=np.stack([below, above]).clip(0), fmt="o", label=label, **style
        )
    diverged = [r.lr for r in rates if r.diverged]
    if diverged:
        edge = axes.get_xaxis_transform()
        axes.plot(diverged, [0.96] * len(diverged), "x", color=VERMILION, transform=edge, label="diverged")
    axes.axhline(search.constant, color=FAINT, linestyle=":", linewidth=1.2, label="best constant prediction")
    losses = [r.held_out for r in known if r.held_out is not None] + [search.constant]
    if min(losses) > 0 and max(losses) / min(losses) > 20:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif diverged:
        axes.set_ylim(top=1.2 * max(losses))  # room for the crosses


def _mark(axes: Axes, search: LearningRateSearch) -> None:
    if search.low is not None and search.high is not None:
        # The shade reaches half-way to the next tried rates.
        label = f"as good for {several(search.run_steps, 'step')}"
        axes.axvspan(search.low / 1.15, search.high * 1.15, color=GREEN, alpha=0.13, linewidth=0, label=label)
    if search.suggestion is not None:
        label = f"suggestion {search.suggestion:g}"
        axes.axvline(search.suggestion, color=GREEN, linewidth=1.6, label=label, zorder=1)
    origin = "recipe" if search.origin == "recipe" else "requested"
    axes.axvline(
        search.configured, color=ORANGE, linestyle="--", linewidth=1.6, label=f"{origin} {search.configured:g}"
    )


def _span(search: LearningRateSearch) -> tuple[float, float]:
    lrs = [*(r.lr for r in search.rates), search.configured, search.suggestion or search.configured]
    low = min(lrs) / _BEFORE
    first = [p.lr for p in search.range_test[:1]]
    last = [p.lr for p in search.range_test[-1:]]
    return max([low, *first]), 1.5 * max([*lrs, *last])
