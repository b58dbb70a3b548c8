"""The correlation between feature maps: how many of a layer are redundant, and which are dead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.errors import DataError, UsageError
from striate.visualize.canvas import (
    BLUE,
    FAINT,
    INK,
    SMALL,
    VERMILION,
    evenly_chosen,
    heading,
    legend,
    main_title,
    new_figure,
    quiet_frame,
)
from striate.visualize.inside.mosaic import caption
from striate.visualize.inside.passes import LayerOutput, batches, layer_outputs, no_such_layer
from striate.wording import listed, several, shorten_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALIKE = 0.95
"""Two maps with an absolute correlation of this or more are nearly copies."""
_MOST_UNITS = 4096
_MOST_VALUES = 2**24
"""Largest number of values of a layer from one batch; of more, every k-th position is used."""
_FEW = 0.25


@dataclass(frozen=True, eq=False)
class LayerCorrelation:
    """The units of one layer over all samples and positions."""

    name: str
    """The layer by name."""
    units: int
    """Number of units."""
    dead: tuple[int, ...]
    """Units that are 0 everywhere, for every sample."""
    still: tuple[int, ...]
    """Other units that never vary."""
    std: NDArray[np.float64]
    """(units,) standard deviations."""
    correlation: NDArray[np.float64]
    """(units, units) Pearson's r, NaN with units that never vary."""
    effective: float
    """The effective number of uncorrelated units, (Σλ)² / Σλ² of the correlation's eigenvalues λ."""
    alike: tuple[tuple[int, int, float], ...]
    """Pairs with |r| ≥ 0.95, the most similar first."""

    @property
    def verdict(self) -> str:
        """A sentence on how many of the units are not redundant."""
        silent = len(self.dead) + len(self.still)
        if silent == self.units:
            return (
                f"{self.name}: all {several(self.units, 'unit is', 'units are')} the same everywhere, for every input"
            )
        text = (
            f"{self.name}: {several(self.units, 'unit is', 'units are')} as diverse as {self.effective:.1f} "
            "uncorrelated ones"
        )
        facts = [f"{len(self.dead)} dead ({listed([str(unit) for unit in self.dead])})"] if self.dead else []
        facts += [f"{len(self.still)} never varying"] if self.still else []
        facts += [f"{several(len(self.alike), 'pair')} nearly the same"] if self.alike else []
        return f"{text}; {', '.join(facts) or 'none dead, none nearly the same'}"

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object, without the matrix."""
        values = {name: value for name, value in vars(self).items() if name != "correlation"}
        return values | {"std": self.std.tolist(), "verdict": self.verdict}


@dataclass(frozen=True, eq=False)
class Correlations:
    """All layers, the one that is shown in detail, and the number of samples."""

    layers: tuple[LayerCorrelation, ...]
    chosen: LayerCorrelation
    n: int

    @property
    def verdict(self) -> str:
        """The conclusion: dead units, and layers with many redundant ones."""
        dead = sum(len(layer.dead) for layer in self.layers)
        total = sum(layer.units for layer in self.layers)
        poor = [layer.name for layer in self.layers if layer.effective < _FEW * layer.units]
        text = f"{dead} of {several(total, 'unit')} are dead" if dead else f"None of {several(total, 'unit')} is dead"
        if poor:
            where = listed(poor) if len(poor) < 4 else f"{len(poor)} of {several(len(self.layers), 'layer')}"
            text += f"; most units of {where} are redundant: as diverse as less than a quarter of them, uncorrelated"
        return text + "."

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object, with the matrix of the chosen layer only, null where a unit never varies."""
        matrix = [[float(r) if np.isfinite(r) else None for r in row] for row in self.chosen.correlation]
        return {
            "n": self.n,
            "verdict": self.verdict,
            "layers": [layer.to_json() for layer in self.layers],
            "layer": self.chosen.name,
            "correlation": matrix,
        }


def correlate_maps(module: nn.Module, x: torch.Tensor, layer: str | None = None) -> Correlations:
    """The correlation of the units of each layer over normalized inputs `x` (N, …), over samples and positions.

    Layers: activations and residual sums with more than one unit, or, of a network without activations, all its
    layers. Shown in detail: `layer`, or the last one whose units have positions. Raises UsageError for an unknown
    layer.
    """
    sums: dict[str, _Sums] = {}
    for part in batches(x):
        for output in layer_outputs(module, part):
            if 1 < output.values.shape[1] <= _MOST_UNITS:
                sums.setdefault(output.name, _Sums(output)).add(output.values)
    if not sums:
        raise DataError(
            "correlation", "no layer with several units", "a layer with several units", "use another network"
        )
    if layer is not None and layer not in sums:
        raise no_such_layer(layer, list(sums))
    active = [name for name, of in sums.items() if of.active] or list(sums)
    if layer is not None and layer not in active:
        active.append(layer)
    order = [name for name in sums if name in active]
    if len(x) < 2 and not any(sums[name].is_map for name in order):
        raise UsageError("samples", str(len(x)), "at least 2", "give more samples")
    found = {name: sums[name].result(name) for name in order}
    last = [name for name in order if sums[name].is_map] or order
    return Correlations(tuple(found.values()), found[layer or last[-1]], len(x))


class _Sums:
    """Sums of a layer's units, and of the products of any two, over samples and positions."""

    def __init__(self, first: LayerOutput) -> None:
        count = first.values.shape[1]
        self.is_map = first.is_map
        self.active = first.kind == "sum" or first.activation
        self.n = 0
        # Sums of values near zero keep their precision, so the mean of the first batch is subtracted.
        self.origin = _rows(first.values).mean(0).double()
        self.sum = torch.zeros(count, dtype=torch.float64)
        self.products = torch.zeros(count, count, dtype=torch.float64)
        self.nonzero = torch.zeros(count, dtype=torch.bool)

    def add(self, values: torch.Tensor) -> None:
        rows = _rows(values)
        self.nonzero |= (values.movedim(1, 0).flatten(1) != 0).any(1).cpu()
        centered = rows.double() - self.origin
        self.n += len(rows)
        self.sum += centered.sum(0)
        self.products += centered.T @ centered

    def result(self, name: str) -> LayerCorrelation:
        mean = self.sum / self.n
        covariance = (self.products / self.n - mean[:, None] * mean).numpy()
        variance = np.diag(covariance).clip(0)
        scale = float(variance.max())
        varies = variance > max(scale * 1e-12, 1e-24)
        std = np.sqrt(np.where(varies, variance, 0))
        with np.errstate(divide="ignore", invalid="ignore"):
            matrix = np.where(np.outer(varies, varies), covariance / np.outer(std, std), np.nan).clip(-1, 1)
        inner = matrix[np.ix_(varies, varies)]
        dead = tuple(int(k) for k in np.flatnonzero(~self.nonzero.numpy()))
        still = tuple(int(k) for k in np.flatnonzero(~varies) if k not in set(dead))
        first, second = np.triu_indices(len(matrix), 1)
        values = matrix[first, second]
        near = [k for k in np.argsort(-np.nan_to_num(np.abs(values))) if abs(values[k]) >= ALIKE]
        alike = tuple((int(first[k]), int(second[k]), float(values[k])) for k in near)
        # The trace of a correlation matrix is its size; the sum of its squared entries that of squared eigenvalues.
        effective = len(inner) ** 2 / float(np.square(inner).sum()) if len(inner) else 0.0
        return LayerCorrelation(name, len(matrix), dead, still, std, matrix, effective, alike)


def _rows(values: torch.Tensor) -> torch.Tensor:
    """(B, C, *spatial) as (positions, C), every k-th where there are too many."""
    rows = values.movedim(1, -1).reshape(-1, values.shape[1]).cpu()
    return rows[:: max(1, -(-rows.numel() // _MOST_VALUES))]


def grouped(matrix: NDArray[np.float64]) -> NDArray[np.int64]:
    """An order of the units in which correlated ones are neighbors (average linkage on 1 − |r|); units without a
    correlation come last."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    known = np.flatnonzero(np.isfinite(np.diag(matrix)))
    rest = np.setdiff1d(np.arange(len(matrix)), known)
    if len(known) < 3:
        return np.concatenate([known, rest])
    distance = 1 - np.abs(matrix[np.ix_(known, known)])
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform((distance + distance.T) / 2, checks=False).clip(0), "average", optimal_ordering=True)
    return np.concatenate([known[leaves_list(tree)], rest])


_MOST = 30


def correlation_figure(found: Correlations, *, title: str) -> Figure:
    """Left: how diverse the maps of each layer are, and how many are dead; right: the correlations of one layer; below:
    the verdict."""
    figure = new_figure(10.5, max(5.2, 0.24 * min(len(found.layers), _MOST) + 1.8))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    draw_diversity(left, found.layers)
    draw_correlation(right, found.chosen)
    words = f"{found.verdict} {found.chosen.verdict}. n = {several(found.n, 'sample')}, at all positions."
    caption(figure, words)
    main_title(figure, title)
    return figure


def draw_diversity(axes: Axes, layers: tuple[LayerCorrelation, ...]) -> None:
    """Two bars a layer: its effective number of uncorrelated maps, as a share of all; and, in red, the share that is
    dead or never varies."""
    shown = [layers[k] for k in evenly_chosen(len(layers), _MOST)]
    places = np.arange(len(shown))
    diverse = [100 * layer.effective / layer.units for layer in shown]
    silent = [100 * (len(layer.dead) + len(layer.still)) / layer.units for layer in shown]
    axes.barh(places - 0.2, diverse, 0.4, color=BLUE, label="number of uncorrelated units as diverse")
    axes.barh(places + 0.2, silent, 0.4, color=VERMILION, hatch="///", edgecolor="white", label="dead or never varying")
    for place, layer, share in zip(places, shown, diverse, strict=True):
        axes.text(share + 1, place - 0.2, f"{layer.effective:.1f}", va="center", fontsize=SMALL - 1, color=INK)
    axes.set_yticks(places, [f"{shorten_path(layer.name, 22)} ({layer.units})" for layer in shown], fontsize=SMALL)
    axes.invert_yaxis()
    axes.set_xlim(0, 108)
    quiet_frame(axes)
    axes.set_xlabel("% of the layer's units", fontsize=SMALL)
    legend(axes, fontsize=SMALL - 0.5, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)


def draw_correlation(axes: Axes, layer: LayerCorrelation) -> None:
    """The matrix of correlations, with correlated units as neighbors; gray where a unit never varies."""
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
    heading(axes, f"{shorten_path(layer.name, 30)}: correlation r of its {several(layer.units, 'unit')}")
    axes.set_xlabel("unit, grouped by correlation", fontsize=SMALL)
    bar = axes.figure.colorbar(colors, ax=axes, shrink=0.8, ticks=[-1, -0.5, 0, 0.5, 1])
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)
