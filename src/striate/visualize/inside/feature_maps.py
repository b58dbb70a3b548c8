"""Feature maps: the outputs of each layer for one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.account.ledger import Shape
from striate.errors import DataError
from striate.visualize.canvas import BLUE, FAINT, INK, SMALL, evenly_chosen, main_title, new_figure, show_image
from striate.visualize.inside.filters import flat_kernel
from striate.visualize.inside.mosaic import Picture, caption, columns_for, show_mosaic, signed_colors, strength_colors
from striate.visualize.inside.passes import LayerOutput, choose_layer, outputs_of_one
from striate.wording import several, shorten_path, show_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 256
"""Largest number of maps of a layer in the record; of a layer without positions, it has all units."""


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """The outputs of one layer for one image."""

    name: str
    """The layer by name."""
    kind: str
    """The word of layer strings where there is one."""
    shape: Shape
    """(C, *spatial), or (F,)."""
    activity: tuple[float, ...]
    """Of every unit, the mean of its absolute values."""
    units: tuple[int, ...]
    """Numbers of the units in `maps`, the most active first."""
    maps: NDArray[np.float32]
    """(K, *spatial), or (K,) of a layer without positions."""
    low: float
    """The smallest value of the layer."""
    high: float
    """The largest value of the layer."""
    silent: int
    """Number of units that are 0 everywhere."""

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return vars(self) | {"maps": self.maps.tolist()}


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """The maps of the layers, in the order of execution."""

    layers: tuple[LayerMaps, ...]

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return {"layers": [layer.to_json() for layer in self.layers]}


def feature_maps(module: nn.Module, x: torch.Tensor, layer: str | None = None, *, most: int = MOST) -> FeatureMaps:
    """The outputs of every layer, or of `layer` alone, for one normalized input `x`, (C, *spatial), (F,) or a batch of
    one, the most active units first, at most `most` maps a layer. Raises UsageError for an unknown layer, DataError for
    a batch of several inputs, and for outputs that are not finite."""
    _, outputs = outputs_of_one(module, x)
    if not outputs:
        raise DataError("feature maps", "no layer that outputs a tensor for each input", "one", "another network")
    chosen = outputs if layer is None else (choose_layer(outputs, layer),)
    return FeatureMaps(tuple(_maps(output, most) for output in chosen))


def _maps(output: LayerOutput, most: int) -> LayerMaps:
    values = output.values[0].cpu().numpy()
    if not np.isfinite(values).all():
        raise DataError(f"layer {output.name}", "values that are NaN or Inf", "finite ones", "striate doctor RUN")
    flat = np.abs(values.reshape(len(values), -1), dtype=np.float64)
    activity = flat.mean(1)
    order = np.argsort(-activity, kind="stable")[: most if output.is_map else None]
    return LayerMaps(
        output.name,
        output.kind,
        values.shape,
        tuple(activity.tolist()),
        tuple(int(unit) for unit in order),
        values[order],
        float(values.min()),
        float(values.max()),
        int((flat.max(1) == 0).sum()),
    )


ACROSS, DOWN = 12, 24
"""Largest number of maps of each layer, and of layers."""
_WIDE, _ROW = 10.0, 0.92  # inches
_NAME = 20
_QUIET = ("dropout", "flatten", "Identity")


def feature_maps_figure(found: FeatureMaps, *, title: str, image: NDArray[np.uint8] | None = None) -> Figure:
    """The layers one under the other, their most active maps from the left; of one layer alone, all maps that the
    record holds. `image`: (C, H, W) uint8, drawn at the upper left."""
    if len(found.layers) == 1:
        return _one_layer(found.layers[0], title, image)
    layers, words = _drawn_layers(found.layers)
    figure = new_figure(_WIDE, _ROW * (len(layers) + (image is not None)) + 0.95)
    rows = figure.subplots(len(layers) + (image is not None), 1, squeeze=False).ravel()
    if image is not None:
        show_image(rows[0], image)
        rows[0].set_anchor("W")
        _name(rows[0], "image", show_shape(image.shape))
    for axes, layer in zip(rows[image is not None :], layers, strict=True):
        draw_maps(axes, layer, ACROSS)
        axes.set_anchor("W")
        _name(axes, shorten_path(layer.name, _NAME), f"{layer.kind} {show_shape(layer.shape)}")
    caption(figure, words)
    main_title(figure, title)
    return figure


def draw_maps(axes: Axes, layer: LayerMaps, most: int = ACROSS) -> None:
    """The most active maps of one layer in a row, each named with its unit; of a layer without positions, a bar for
    each unit in their own order."""
    if layer.maps.ndim == 1:
        _draw_units(axes, layer)
        return
    show_mosaic(axes, _tiles(layer, most), min(most, len(layer.maps)), heads=[str(k) for k in layer.units[:most]])


def _one_layer(layer: LayerMaps, title: str, image: NDArray[np.uint8] | None) -> Figure:
    if layer.maps.ndim == 1:
        figure = new_figure(_WIDE, 3.4)
        left, axes = figure.subplots(1, 2, width_ratios=(1, 4)) if image is not None else (None, figure.subplots())
        _draw_units(axes, layer)
    else:
        tiles = _tiles(layer, len(layer.maps))
        columns = columns_for(len(tiles), tiles[0].shape[0], tiles[0].shape[1], ratio=1.3)
        ratio = -(-len(tiles) // columns) * tiles[0].shape[0] / (columns * tiles[0].shape[1])
        figure = new_figure(_WIDE, 7.6 * ratio + 1.0)
        left, axes = figure.subplots(1, 2, width_ratios=(1, 4)) if image is not None else (None, figure.subplots())
        rows = [str(layer.units[k]) for k in range(0, len(tiles), columns)]
        show_mosaic(axes, tiles, columns, rows=rows)
        axes.set_ylabel("unit at the left of each row", fontsize=SMALL, color=FAINT)
    if left is not None and image is not None:
        show_image(left, image)
    shown = f"{len(layer.units)} of " if len(layer.units) < layer.shape[0] else ""
    text = (
        f"{layer.name}, {layer.kind} {show_shape(layer.shape)}: {shown}{several(layer.shape[0], 'unit')}, the "
        "most active first"
    )
    caption(figure, f"{text}. {_colors(layer.low < 0)} {_silent([layer])}")
    main_title(figure, title)
    return figure


def _draw_units(axes: Axes, layer: LayerMaps) -> None:
    values = np.zeros(layer.shape[0])
    values[list(layer.units)] = layer.maps
    axes.bar(np.arange(len(values)), values, width=0.9 if len(values) < 100 else 1.0, color=BLUE)
    axes.axhline(0, color=FAINT, linewidth=0.7)
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(labelsize=SMALL, labelcolor=FAINT, length=2)
    axes.locator_params(axis="y", nbins=3)
    if len(values) <= 20:
        axes.set_xticks(range(len(values)))


def _tiles(layer: LayerMaps, most: int) -> list[Picture]:
    """The maps as pictures, on one scale, so that weak maps look weak."""
    maps = [flat_kernel(each) for each in layer.maps[:most]]
    if layer.low < 0:
        high = max(-layer.low, layer.high)
        return [signed_colors(each, high) for each in maps]
    return [strength_colors(each, 0.0, layer.high) for each in maps]


def _drawn_layers(layers: tuple[LayerMaps, ...]) -> tuple[list[LayerMaps], str]:
    chosen = [layer for layer in layers if layer.kind not in _QUIET and not _repeats(layer, layers)]
    maps = f"The {ACROSS} most active maps of each layer, from the left, with the number of their unit."
    words = maps if any(layer.maps.ndim > 1 for layer in chosen) else "The output of every unit of each layer."
    count = len(chosen)
    if count > DOWN:
        # Of convolution, normalization and activation, only the last one is the input of the next layer.
        ends = (chosen[0], chosen[-1])
        chosen = [layer for layer in chosen if layer.kind not in ("conv", "bn") or layer in ends]
    chosen = [chosen[k] for k in evenly_chosen(len(chosen), DOWN)]
    if len(chosen) < count:
        words += f" {len(chosen)} of {several(count, 'layer')}; --layer NAME shows any other one."
    signed = {layer.low < 0 for layer in chosen if layer.maps.ndim > 1}
    return chosen, " ".join([words, *(_colors(sign) for sign in sorted(signed)), _silent(chosen)])


def _repeats(layer: LayerMaps, layers: tuple[LayerMaps, ...]) -> bool:
    """Whether its outputs equal those of the layer before it."""
    place = layers.index(layer)
    before = layers[place - 1] if place else None
    return before is not None and before.maps.shape == layer.maps.shape and np.array_equal(before.maps, layer.maps)


def _colors(signed: bool) -> str:
    if signed:
        return "Red is above 0, blue below, white 0, on one scale for each layer."
    return "Black is 0, white the layer's largest value."


def _silent(layers: list[LayerMaps]) -> str:
    counts = [f"{layer.silent} of {layer.shape[0]} in {layer.name}" for layer in layers if layer.silent]
    return (
        f"Silent for this input: {', '.join(counts[:6])}{' and elsewhere' if len(counts) > 6 else ''}."
        if counts
        else ""
    )


def _name(axes: Axes, first: str, second: str) -> None:
    axes.set_ylabel(
        f"{first}\n{second}", rotation=0, ha="right", va="center", fontsize=SMALL, color=INK, labelpad=14,
        parse_math=False,
    )  # fmt: skip
