"""Tuning curves, and how selective the layers are."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from striate.visualize.canvas import BLUE, FAINT, SMALL, VERMILION, heading, main_title, new_figure, quiet_frame
from striate.visualize.inside.figures.caption import caption
from striate.visualize.inside.tuning import ORIENTATIONS, TUNED, Tuning, TuningCurve
from striate.wording import shorten_path

_COLUMNS, _MOST = 4, 20


def tuning_figure(found: Tuning, *, title: str) -> Figure:
    """A small plot for each unit at the left, the layers at the right."""
    rows = max(1, -(-len(found.curves) // _COLUMNS))
    figure = new_figure(10.5, max(3.6, 1.55 * rows) + 1.2)
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(2.1, 1)))
    grid = left.subplots(rows, min(_COLUMNS, max(1, len(found.curves))), squeeze=False, sharex=True).ravel()
    for axes, curve in zip(grid, found.curves, strict=False):
        draw_curve(axes, curve)
    for axes in grid[len(found.curves) :]:
        axes.set_axis_off()
    left.supxlabel("orientation of the bars, degrees (0: horizontal)", fontsize=SMALL)
    draw_layers(right.subplots(), found)
    caption(figure, tuning_words(found))
    main_title(figure, title)
    return figure


def draw_curve(axes: Axes, curve: TuningCurve) -> None:
    """The answer of one unit at each orientation, as a share of its best; the dotted line is what it prefers."""
    degrees = np.arange(ORIENTATIONS + 1) * 180 / ORIENTATIONS
    responses = np.array([*curve.responses, curve.responses[0]])
    axes.plot(degrees, responses / (responses.max() or 1.0), color=BLUE, linewidth=1.6)
    if responses.any():
        axes.axvline(curve.preferred, color=VERMILION, linestyle=":", linewidth=1.2)
    quiet_frame(axes)
    axes.set(xlim=(0, 180), ylim=(0, 1.08), xticks=(0, 45, 90, 135, 180), yticks=(0, 1))
    kind = "simple" if curve.modulation > 1 else "complex"
    said = f"{curve.selectivity:.2f} {kind} λ {curve.wavelength}" if responses.any() else "no answer"
    axes.set_title(f"unit {curve.unit}: {said}", fontsize=SMALL - 0.5, loc="left", parse_math=False)


def draw_layers(axes: Axes, found: Tuning) -> None:
    """The median selectivity of each layer."""
    layers = found.layers
    if len(layers) > _MOST:
        layers = tuple(layers[int(k)] for k in np.unique(np.linspace(0, len(layers) - 1, _MOST).round()))
    places = np.arange(len(layers))
    axes.barh(places, [layer.selectivity for layer in layers], 0.55, color=BLUE)
    for place, layer in zip(places, layers, strict=True):
        said = f"{layer.tuned:.0%} tuned" if layer.answering else "no answer"
        axes.text(layer.selectivity + 0.02, float(place), said, va="center", fontsize=SMALL - 1.5, color=FAINT)
    axes.axvline(TUNED, color=VERMILION, linestyle=":", linewidth=1.2)
    axes.set_yticks(places, [shorten_path(layer.name, 20) for layer in layers], fontsize=SMALL)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15)
    quiet_frame(axes)
    axes.grid(False, axis="y")
    heading(axes, "median selectivity by layer")


def tuning_words(found: Tuning) -> str:
    """How many units of the layer are tuned, and what the figures mean."""
    layer = next((each for each in found.layers if each.name == found.layer), None)
    facts = ""
    if layer is not None and layer.answering:
        facts = (
            f"{found.layer}: {layer.answering} of {layer.units} units answer to gratings, {layer.tuned:.0%} of these "
            f"are tuned (selectivity {TUNED} or more), {layer.simple:.0%} simple cells. "
        )
    return (
        f"{facts}Sine gratings over the whole image, the unit in the middle of its map. Selectivity: 0 for any "
        "orientation, 1 for one alone; simple: it follows the bars' phase, complex: it does not; λ: best wavelength, "
        "pixels."
    )
