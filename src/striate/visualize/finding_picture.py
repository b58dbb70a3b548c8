"""A small picture beside a finding: curves, bars, or a few images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from striate.visualize.canvas import (
    BLUE,
    GREEN,
    ORANGE,
    SMALL,
    TEXT,
    VERMILION,
    figure_of,
    heading,
    legend,
    limit_ticks,
    name_axes,
    new_figure,
    quiet_frame,
    shorten,
    show_plain_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = (BLUE, VERMILION, GREEN, ORANGE)
_STYLES = ("-", "--", "-.", ":")
_MOST_BARS = 24
_MOST_TIMES = 1000
"""The axis ends at this multiple of the first values: curves that diverge leave the picture."""


def lines_figure(title: str, series: Mapping[str, Sequence[float]]) -> Figure:
    """Each series against the step, from 1; the axis is logarithmic if positive values span a factor of more than
    50."""
    return figure_of(lambda axes: draw_lines(axes, title, series), 5.0, 2.6)


def draw_lines(axes: Axes, title: str, series: Mapping[str, Sequence[float]]) -> None:
    """The curves of `lines_figure` on one pair of axes."""
    for number, (name, values) in enumerate(series.items()):
        color, style = _COLORS[number % 4], _STYLES[number % 4]
        steps = range(1, len(values) + 1)
        axes.plot(steps, _finite(values), color=color, linestyle=style, linewidth=1.6, label=shorten(name, 40))
    known = [value for values in series.values() for value in values if np.isfinite(value)]
    if known and min(known) > 0 and max(known) > 50 * min(known):
        axes.set_yscale("log")
        show_plain_numbers(axes.yaxis)
        first = [values[0] for values in series.values() if values and np.isfinite(values[0])]
        axes.set_ylim(top=min(1.5 * max(known), _MOST_TIMES * max(first, default=max(known))))
    limit_ticks(axes.xaxis, whole=True)
    name_axes(axes, "step", size=SMALL)
    legend(axes)
    _finish(axes, title)


def bars_figure(title: str, labels: Sequence[str], values: Sequence[float]) -> Figure:
    """A bar a label, the first 24 of them."""
    shown = min(len(values), _MOST_BARS)
    return figure_of(lambda axes: draw_bars(axes, title, labels, values), 5.0, 0.8 + 0.2 * max(shown, 3))


def draw_bars(axes: Axes, title: str, labels: Sequence[str], values: Sequence[float]) -> None:
    """The bars of `bars_figure` on one pair of axes."""
    shown = min(len(values), _MOST_BARS)
    axes.barh(range(shown), _finite(values[:shown]), color=BLUE)
    axes.set_yticks(range(shown), [shorten(label, 28) for label in labels[:shown]])
    axes.invert_yaxis()
    more = f" (the first {shown} of {len(values)})" if len(values) > shown else ""
    _finish(axes, title + more)


def images_figure(title: str, images: Sequence[Any], labels: Sequence[str]) -> Figure:
    """Images (C, H, W) or (H, W) with levels 0 to 255, side by side, each under its label; the first six."""
    shown = [np.asarray(image, dtype=np.float64) for image in images[:6]]
    figure = new_figure(max(2.6, 1.25 * len(shown)), 1.7)
    panels = figure.subplots(1, max(len(shown), 1), squeeze=False)[0]
    for axes, image, label in zip(panels, shown, labels, strict=False):
        colored = image.ndim == 3 and image.shape[0] == 3
        pixels = np.moveaxis(image, 0, -1) / 255 if colored else image.reshape(image.shape[-2:])
        axes.imshow(np.clip(pixels, 0, 1 if colored else 255), cmap=None if colored else "gray", vmin=0, vmax=255)
        axes.set_axis_off()
        axes.set_title(shorten(label, 22), fontsize=SMALL, parse_math=False)
    figure.suptitle(shorten(title, 60), fontsize=TEXT, parse_math=False)
    return figure


def _finish(axes: Axes, title: str) -> None:
    heading(axes, shorten(title, 60))
    quiet_frame(axes)


def _finite(values: Sequence[float]) -> list[float]:
    return [float(value) if np.isfinite(value) else float("nan") for value in values]
