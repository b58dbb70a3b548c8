"""The learning curve: a metric against the number of training samples, with a power law extrapolated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from striate.visualize.canvas import BLUE, FAINT, VERMILION, figure_of, legend, name_axes, quiet_frame, show_percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def learning_curve_figure(found: Mapping[str, Any], *, title: str, name: str, share: bool) -> Figure:
    """The learning curve with the keys of learning-curve.json, as a figure of its own."""
    return figure_of(lambda axes: draw_learning_curve(axes, found, name=name, share=share), 5.8, 3.9, title)


def draw_learning_curve(axes: Axes, found: Mapping[str, Any], *, name: str, share: bool) -> None:
    """A dot a training, their means as a line; dashed the power law on to twice the samples, where a bar is its 95 %
    interval. `name`: that of the metric; a `share` is drawn in percent, and what the law lowers is what it lacks."""
    sizes = sorted({point["n"] for point in found["points"]})
    groups = [[point["value"] for point in found["points"] if point["n"] == n] for n in sizes]
    for n, values in zip(sizes, groups, strict=True):
        axes.plot([n] * len(values), values, "o", color=BLUE, markersize=4.5, alpha=0.6)
    means = [float(np.mean(values)) for values in groups]
    axes.plot(sizes, means, color=BLUE, linewidth=1.8, label="measured")
    ticks = list(sizes)
    if (gain := found["gain"]) is not None:
        ticks.append(2 * sizes[-1])
        _draw_law(axes, gain, sizes, share=share)
        legend(axes)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    name_axes(axes, "training samples", f"test {name}")
    if share:
        show_percent(axes.yaxis)
    quiet_frame(axes)


def _draw_law(axes: Axes, gain: Mapping[str, Any], sizes: list[int], *, share: bool) -> None:
    law, last = gain["law"], sizes[-1]
    n = np.geomspace(sizes[0], 2 * last, 60)
    error = law["scale"] * n ** -law["exponent"] + law["floor"]
    axes.plot(n, 1 - error if share else error, color=FAINT, linestyle="--", linewidth=1.2, label="power law")
    now = law["scale"] * last ** -law["exponent"] + law["floor"]
    ends = np.array([now - bound for bound in (gain["value"], *gain["interval"])])
    middle, *bounds = 1 - ends if share else ends
    reach = np.abs(np.array([[min(bounds)], [max(bounds)]]) - middle)
    axes.errorbar([2 * last], [middle], yerr=reach, fmt="s", color=VERMILION, capsize=4, label="with twice the samples")
