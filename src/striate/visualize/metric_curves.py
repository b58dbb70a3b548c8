"""A metric against the number of training samples, and against the strength of each kind of change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from striate.visualize.canvas import (
    BLUE,
    FAINT,
    SMALL,
    TEXT,
    VERMILION,
    figure_of,
    heading,
    legend,
    limit_ticks,
    main_title,
    name_axes,
    new_figure,
    quiet_frame,
    show_percent,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def learning_curve_figure(found: Mapping[str, Any], *, title: str, name: str, share: bool) -> Figure:
    """The learning curve with the keys of learning-curve.json, as a figure of its own."""
    return figure_of(lambda axes: draw_learning_curve(axes, found, name=name, share=share), 5.8, 3.9, title)


def draw_learning_curve(axes: Axes, found: Mapping[str, Any], *, name: str, share: bool) -> None:
    """A dot for each training, and their means as a line; dashed, the power law up to twice the samples, with its 95 %
    interval there. With trainings from pretrained weights, two lines without the law. `name`: that of the metric. A
    `share` is drawn in percent, and the law describes what it lacks of 100 %."""
    sizes = sorted({point["n"] for point in found["points"]})
    pretrained = found.get("pretrained")
    _draw_trainings(axes, found["points"], sizes, BLUE, "measured" if pretrained is None else "from random weights")
    if pretrained is not None:
        _draw_trainings(axes, pretrained["points"], sizes, VERMILION, "from pretrained weights")
    ticks = list(sizes)
    if (gain := found["gain"]) is not None and pretrained is None:
        ticks.append(2 * sizes[-1])
        _draw_law(axes, gain, sizes, share=share)
    if gain is not None or pretrained is not None:
        legend(axes)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
    name_axes(axes, "training samples", f"test {name}")
    if share:
        show_percent(axes.yaxis)
    quiet_frame(axes)


def _draw_trainings(axes: Axes, points: Levels, sizes: list[int], color: str, label: str) -> None:
    groups = [[point["value"] for point in points if point["n"] == n] for n in sizes]
    for n, values in zip(sizes, groups, strict=True):
        axes.plot([n] * len(values), values, "o", color=color, markersize=4.5, alpha=0.6)
    axes.plot(sizes, [float(np.mean(values)) for values in groups], color=color, linewidth=1.8, label=label)


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


_COLUMNS = 4
_WIDTH, _HEIGHT = 2.45, 2.1  # inches a panel
_UNITS = {"°": "degrees", "° tilted": "degrees of tilt", "×": "times as large"}
Levels = Sequence[Mapping[str, Any]]
"""Each with `strength`, `accuracy` (or `value`), `interval`, `unchanged`, `unchanged_interval`, as in
robustness.json."""


def robustness_figure(found: Mapping[str, Any], *, title: str, name: str = "right", share: bool = True) -> Figure:
    """A panel for each of `curves`, and one for the share of predictions that the first of them, if it is a shift,
    leaves unchanged.

    `found` has the keys of robustness.json, `name` is that of its metric. All panels have the same axis: for a `share`,
    0 to 100 %. A dashed line is the metric of the original images, a dotted one the accuracy of guessing among all
    classes.
    """
    curves, hits = found["curves"], "accuracy" in found
    key = "accuracy" if hits else "value"
    shifted = curves[0]["name"] == "shift" and curves[0]["levels"][0]["unchanged"] is not None
    count = len(curves) + shifted
    rows = -(-count // _COLUMNS)
    figure = new_figure(_COLUMNS * _WIDTH, rows * _HEIGHT + 0.4)
    panels = figure.subplots(rows, _COLUMNS, sharey=True, squeeze=False).ravel()
    value = found[key]
    clean, chance = (value, *(found["interval"] or (value, value))), 1 / max(1, found["classes"]) if hits else None
    for axes, curve in zip(panels, curves, strict=False):
        draw_strengths(axes, curve, clean=clean, chance=chance, key=key, percent=share)
        heading(axes, str(curve["name"]))
    if shifted:
        last = panels[len(curves)]
        draw_strengths(last, curves[0], clean=(1.0, 1.0, 1.0), key="unchanged", color=VERMILION)
        heading(last, f"shift: {'prediction ' if hits else ''}unchanged")
    for axes in panels[count:]:
        axes.set_visible(False)
    for axes in panels[::_COLUMNS]:
        axes.set_ylabel(name, fontsize=SMALL)
    method, guessing = ("Wilson", "; dotted: chance") if hits else ("bootstrap", "")
    legend = f"bands: 95 % intervals ({method}); dashed: original images{guessing}"
    figure.supxlabel(legend, fontsize=SMALL, color=FAINT)
    main_title(figure, title)
    return figure


def draw_strengths(
    axes: Axes,
    curve: Mapping[str, Any],
    *,
    clean: tuple[float, float, float],
    chance: float | None = None,
    key: str = "accuracy",
    color: str = BLUE,
    percent: bool = True,
) -> None:
    """One curve: the values of `key` (`accuracy`, `value` or `unchanged`) against the strength, with a band for the
    95 % interval. `clean`: the value of the original images with the ends of its interval, a point if the kind of
    change has a strength for them."""
    levels: list[Mapping[str, Any]] = list(curve["levels"])
    ends = "unchanged_interval" if key == "unchanged" else "interval"
    points = [(level["strength"], level[key], *(level[ends] or (level[key],) * 2)) for level in levels]
    if curve["identity"] is not None:
        points.append((curve["identity"], *clean))
    x, middle, low, high = np.array(sorted(points), np.float64).T
    axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    axes.plot(x, middle, color=color, linewidth=1.6, marker="o", markersize=3.5)
    axes.axhline(clean[0], color=FAINT, linestyle="--", linewidth=1)
    if chance is not None:
        axes.axhline(chance, color=FAINT, linestyle=":", linewidth=1)
    _scale(axes, levels, curve["identity"])
    if percent:
        axes.set_ylim(0, 1.03)
        show_percent(axes.yaxis)
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(_UNITS.get(curve["unit"], str(curve["unit"])), fontsize=SMALL)
    axes.title.set_fontsize(TEXT)
    quiet_frame(axes)


def _scale(axes: Axes, levels: Levels, identity: float | None) -> None:
    """Use a logarithmic axis for factors, and for qualities, whose larger numbers are the weaker changes."""
    if identity == 0:
        limit_ticks(axes.xaxis, 6, whole=all(level["strength"] % 1 == 0 for level in levels))
        return
    axes.set_xscale("log")
    axes.minorticks_off()
    strengths = sorted({level["strength"] for level in levels} if identity is None else {0.5, identity, 2.0})
    axes.set_xticks(strengths, [f"{strength:g}" for strength in strengths])
    if identity is None:
        axes.invert_xaxis()


def invariance_figure(found: Mapping[str, Any], *, title: str) -> Figure:
    """A row for each of `curves`, with the keys of invariance.json: on the left the distance of the features of each
    layer, on the right, where there are classes, the probability of the true class, with bands for 95 % intervals."""
    curves, layers, plain = found["curves"], found["layers"], found["probability"]
    across = 1 if plain is None else 2
    figure = new_figure(4.2 * across, 2.5 * len(curves) + 0.9)
    grid = figure.subplots(len(curves), across, squeeze=False)
    for (left, *right), curve in zip(grid, curves, strict=True):
        for place, layer in enumerate(layers):
            points = [(level["strength"], level["distances"][layer]) for level in curve["levels"]]
            nothing = (curve["identity"], {"mean": 0.0, "interval": [0.0, 0.0]})
            _draw_band(left, [*points, nothing], _shade(place, len(layers)), layer)
        for axes in (left, *right):
            limit_ticks(axes.xaxis, 6, whole=curve["identity"] == 0)
        left.axhline(1, color=FAINT, linestyle=":", linewidth=1)
        left.set_ylim(bottom=0)
        name_axes(left, f"{curve['name']}, {_UNITS.get(curve['unit'], curve['unit'])}", "distance", SMALL)
        quiet_frame(left)
        for axes in right:
            points = [(level["strength"], level["probability"]) for level in curve["levels"]]
            _draw_band(axes, [*points, (curve["identity"], plain)], VERMILION, "")
            axes.set_ylim(0, 1.03)
            name_axes(
                axes, f"{curve['name']}, {_UNITS.get(curve['unit'], curve['unit'])}", "p of the true class", SMALL
            )
            show_percent(axes.yaxis)
            quiet_frame(axes)
    legend(grid[0][0])
    figure.supxlabel(
        "dotted: distance to another image; bands: 95 % intervals over images", fontsize=SMALL, color=FAINT
    )
    main_title(figure, title)
    return figure


def _shade(place: int, count: int) -> Any:
    """A color from light, for the first layer, to dark, for the last one."""
    from matplotlib import colormaps

    return colormaps["viridis"](0.85 * (1 - place / max(1, count - 1)))


def _draw_band(axes: Axes, points: Sequence[tuple[float, Mapping[str, Any]]], color: Any, label: str) -> None:
    rows = sorted((strength, mean["mean"], *mean["interval"]) for strength, mean in points)
    x, middle, low, high = np.array(rows, np.float64).T
    axes.fill_between(x, low, high, color=color, alpha=0.2, linewidth=0)
    axes.plot(x, middle, color=color, linewidth=1.6, marker="o", markersize=3, label=label or None)
