"""Correlation between feature maps: all layers side by side, and one matrix."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from striate.visualize.canvas import BLUE, FAINT, INK, SMALL, VERMILION, heading, main_title, new_figure, quiet_frame
from striate.visualize.inside.correlation import Correlations, LayerCorrelation, grouped
from striate.visualize.inside.figures.caption import caption
from striate.wording import shorten_path

_MOST = 30


def correlation_figure(found: Correlations, *, title: str) -> Figure:
    """At the left how diverse the maps of each layer are and how many are dead, at the right the correlations of one
    layer, beneath the verdict."""
    figure = new_figure(10.5, max(5.2, 0.24 * min(len(found.layers), _MOST) + 1.8))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    draw_diversity(left, found.layers)
    draw_correlation(right, found.chosen)
    words = f"{found.verdict} {found.chosen.verdict}. n = {found.n:,} samples, at all positions."
    caption(figure, words)
    main_title(figure, title)
    return figure


def draw_diversity(axes: Axes, layers: tuple[LayerCorrelation, ...]) -> None:
    """A bar a layer: the share of its maps that would be as diverse, were they uncorrelated; beside it, in red, the
    share that is dead or never varies."""
    shown = layers if len(layers) <= _MOST else tuple(layers[k] for k in _spread(len(layers)))
    places = np.arange(len(shown))
    diverse = [100 * layer.effective / layer.units for layer in shown]
    silent = [100 * (len(layer.dead) + len(layer.still)) / layer.units for layer in shown]
    axes.barh(places - 0.2, diverse, 0.4, color=BLUE, label="as diverse as so many uncorrelated ones")
    axes.barh(places + 0.2, silent, 0.4, color=VERMILION, hatch="///", edgecolor="white", label="dead or never varying")
    for place, layer, share in zip(places, shown, diverse, strict=True):
        axes.text(share + 1, place - 0.2, f"{layer.effective:.1f}", va="center", fontsize=SMALL - 1, color=INK)
    axes.set_yticks(places, [f"{shorten_path(layer.name, 22)} ({layer.units})" for layer in shown], fontsize=SMALL)
    axes.invert_yaxis()
    axes.set_xlim(0, 108)
    quiet_frame(axes)
    axes.set_xlabel("% of the layer's units", fontsize=SMALL)
    axes.legend(fontsize=SMALL - 0.5, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def draw_correlation(axes: Axes, layer: LayerCorrelation) -> None:
    """The matrix of correlations, units that go together beside one another; gray where a unit never varies."""
    order = grouped(layer.correlation)
    colors = axes.imshow(
        layer.correlation[np.ix_(order, order)], cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest"
    )
    axes.set_facecolor("#AAAAAA")
    step = max(1, -(-len(order) // 24))
    names = [str(unit) for unit in order[::step]]
    axes.set_xticks(range(0, len(order), step), names, rotation=90 if len(order) > 12 else 0)
    axes.set_yticks(range(0, len(order), step), names)
    axes.tick_params(labelsize=SMALL - 1.5, length=0, labelcolor=FAINT)
    heading(axes, f"{shorten_path(layer.name, 30)}: correlation r of its {layer.units} units")
    axes.set_xlabel("unit, grouped by likeness", fontsize=SMALL)
    bar = axes.figure.colorbar(colors, ax=axes, shrink=0.8, ticks=[-1, -0.5, 0, 0.5, 1])
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)


def _spread(count: int) -> list[int]:
    return [int(k) for k in np.unique(np.linspace(0, count - 1, _MOST).round())]
