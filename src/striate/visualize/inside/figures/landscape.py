"""The loss landscape: lines, and a map of the plane."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from striate.visualize.canvas import BLUE, FAINT, SMALL, VERMILION, heading, main_title, new_figure, quiet_frame
from striate.visualize.inside.figures.caption import caption
from striate.visualize.inside.landscape import Landscape

_LEVELS = 16


def landscape_figure(found: Landscape, *, title: str) -> Figure:
    """Both lines at the left, the plane at the right."""
    figure = new_figure(10.0, 5.2)
    left, right = figure.subplots(1, 2)
    draw_lines(left, found)
    draw_plane(right, found)
    caption(figure, landscape_words(found))
    main_title(figure, title)
    return figure


def draw_lines(axes: Axes, found: Landscape) -> None:
    """The loss along both random directions, on a logarithmic axis."""
    looks = ((BLUE, "-", "first"), (VERMILION, "--", "second"))
    for values, (color, style, name) in zip(found.lines, looks, strict=True):
        axes.plot(found.steps, values, color=color, linestyle=style, linewidth=1.8, label=f"{name} direction")
    axes.plot([0], [found.center], "o", color="black", markersize=5, label=f"the weights, {found.center:.3g}")
    quiet_frame(axes)
    _logarithmic(axes, found.lines)
    axes.legend(fontsize=SMALL, frameon=False)
    axes.set_xlabel("step; 1 moves each filter by its own length", fontsize=SMALL)
    heading(axes, "loss along two lines")


def draw_plane(axes: Axes, found: Landscape) -> None:
    """Lines of equal loss over the plane of both directions."""
    heights = np.where(np.isfinite(found.plane), found.plane, np.nan)
    positive = float(np.nanmin(heights)) > 0
    low, high = float(np.nanmin(heights)), float(np.nanmax(heights))
    if high > low:
        levels = np.geomspace(low, high, _LEVELS) if positive else np.linspace(low, high, _LEVELS)
        axes.contourf(found.grid, found.grid, heights, levels, cmap="viridis_r", norm="log" if positive else None)
        drawn = axes.contour(found.grid, found.grid, heights, levels[1:-1:2], colors="white", linewidths=0.7)
        axes.clabel(drawn, fmt=lambda value: f"{value:.2g}", fontsize=SMALL - 1)
    axes.plot([0], [0], "o", color=VERMILION, markersize=6)
    axes.set_aspect("equal")
    axes.tick_params(labelsize=SMALL)
    axes.set_xlabel("first direction", fontsize=SMALL, color=FAINT)
    axes.set_ylabel("second direction", fontsize=SMALL, color=FAINT)
    heading(axes, "loss over their plane")


def landscape_words(found: Landscape) -> str:
    """How wide the valley is, and what it was measured with."""
    wide = f"The loss doubles {found.width:.2f} away, on average." if found.width is not None else ""
    return (
        f"{wide} Two random directions, each filter scaled to its own length (Li et al. 2018); biases and "
        f"normalizations do not move. Mean loss of {found.n:,} samples, {found.center:.4g} at the weights."
    ).strip()


def _logarithmic(axes: Axes, values: np.ndarray) -> None:
    known = values[np.isfinite(values)]
    if len(known) and known.min() > 0 and known.max() > 10 * known.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda height, _: f"{height:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel("mean loss, logarithmic", fontsize=SMALL)
    else:
        axes.set_ylabel("mean loss", fontsize=SMALL)
