"""Theoretical and effective receptive fields of units, in pixels, and drawn on an image."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.account.field.effective import MASS, EffectiveField, effective_receptive_field
from striate.account.ledger import Row, Shape
from striate.account.summarize import observe
from striate.errors import ModelError
from striate.models.preserved_state import zero_input
from striate.visualize.canvas import ORANGE, VERMILION, heading, main_title, new_figure, show_image
from striate.visualize.inside.mosaic import caption
from striate.visualize.inside.passes import choose_layer, evenly_spaced, layer_outputs, no_such_layer, not_images
from striate.wording import several, shorten_path, show_sizes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class FieldGeometry:
    """The receptive fields of a layer, along each axis, not cut at the border."""

    size: Shape
    """Size of a field, in pixels."""
    center: tuple[float, ...]
    """Center of the first unit's field; 0 is the middle of the first pixel."""
    jump: tuple[float, ...]
    """Distance in pixels from one unit's field to the next."""
    input: Shape
    """Sides of the input."""

    @property
    def whole(self) -> bool:
        """Whether the field is at least as large as the input along some axis."""
        return any(size >= side for size, side in zip(self.size, self.input, strict=True))

    def box(self, position: Shape) -> tuple[tuple[int, int], ...]:
        """First pixel and number of pixels of the field of the unit at `position`, along each axis; the first may be
        negative. Along an axis where the field is as large as the input, the whole input."""
        found = []
        places = position if len(position) == len(self.input) else (0,) * len(self.input)
        for size, center, jump, side, place in zip(self.size, self.center, self.jump, self.input, places, strict=True):
            first = round(center + jump * place - (size - 1) / 2)
            found.append((first, size) if size < side else (0, side))
        return tuple(found)


def find_geometries(module: nn.Module, input_shape: Shape) -> dict[str, FieldGeometry]:
    """The receptive fields of each layer, by its name in `layer_outputs`; units without positions see the whole input.
    Raises ModelError where the network does not take the input."""
    sides = tuple(input_shape[1:])
    times: dict[str, int] = {}
    found = {}
    for row in observe(module, input_shape).rows:
        count = times[row.name] = times.get(row.name, 0) + 1
        found[row.name if count == 1 else f"{row.name} ({count})"] = _geometry(row, sides)
    return found


def geometry_of(geometries: dict[str, FieldGeometry], name: str) -> FieldGeometry:
    """The fields of a layer; of a module with submodules, those of its last one. Raises ModelError where they are not
    known."""
    if name in geometries:
        return geometries[name]
    # The module of a residual sum has no row, only its addition has one.
    base = re.sub(r" \(\d+\)$", "", name)
    inside = [geometry for known, geometry in geometries.items() if known.startswith(f"{base}.")]
    if inside:
        return inside[-1]
    got = "a layer whose receptive field is not known"
    raise ModelError(f"layer {name}", got, "one that striate summary lists", "name another layer: --layer NAME")


def _geometry(row: Row, sides: Shape) -> FieldGeometry:
    if len(row.receptive_field) != len(sides) or len(row.out_shape) != len(sides) + 1 or row.sees_all:
        return FieldGeometry(sides, tuple((side - 1) / 2 for side in sides), (0.0,) * len(sides), sides)
    return FieldGeometry(row.receptive_field, row.center, row.jump, sides)


LAYERS = 4


@dataclass(frozen=True, eq=False)
class LayerField:
    """The receptive field of a layer's center unit."""

    effective: EffectiveField
    """The effective field, as measured."""
    geometry: FieldGeometry
    """The theoretical fields of the layer."""
    box: tuple[tuple[int, int], ...]
    """First pixel and size of the theoretical field along each axis, which may reach over the border."""


@dataclass(frozen=True, eq=False)
class Fields:
    """The fields of some layers, in the order of execution."""

    layers: tuple[LayerField, ...]

    @property
    def words(self) -> str:
        """Sizes of the effective and the theoretical fields."""
        texts = [
            f"{each.effective.layer}: effective {show_sizes([round(side) for side in each.effective.size])} of "
            f"{show_sizes(each.geometry.size)} pixels"
            for each in self.layers
        ]
        return "; ".join(texts)

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return {"layers": [_as_json(each) for each in self.layers]}


def find_fields(module: nn.Module, input_shape: Shape, layer: str | None = None) -> Fields:
    """The theoretical and the effective receptive field of the center units of `layer`, or of up to 4 layers with
    maps. `input_shape`: (C, H, W). See `effective_receptive_field`. Raises UsageError for an unknown layer."""
    if len(input_shape) != 3:
        raise not_images("field", input_shape)
    outputs = layer_outputs(module, zero_input(module, input_shape))
    modules = {name for name, _ in module.named_modules()}
    sides = {
        output.name: tuple(output.values.shape[2:])
        for output in outputs
        if output.values.ndim == 4 and output.values[0, 0].numel() > 1 and output.name in modules
    }
    geometries = find_geometries(module, input_shape)
    if layer is not None:
        name = layer if layer in sides else choose_layer(outputs, layer).name
        names = [name]
    else:
        names = _growing(list(sides), geometries)
    if not names or any(name not in sides for name in names):
        raise no_such_layer(layer or "", list(sides))
    found = []
    for name in names:
        geometry = geometry_of(geometries, name)
        center = tuple(side // 2 for side in sides[name])
        with torch.inference_mode(False):
            effective = effective_receptive_field(module, input_shape, name)
        found.append(LayerField(effective, geometry, geometry.box(center)))
    return Fields(tuple(found))


def _growing(names: list[str], geometries: dict[str, FieldGeometry]) -> list[str]:
    """Up to 4 of the layers, from the first to the last, each with a larger field than the one before."""
    larger: list[str] = []
    for name in names:
        size = geometry_of(geometries, name).size
        if not larger or sum(size) > sum(geometry_of(geometries, larger[-1]).size):
            larger.append(name)
    return [larger[int(k)] for k in np.unique(evenly_spaced(len(larger), LAYERS).numpy())] if larger else []


def _as_json(field: LayerField) -> dict[str, Any]:
    effective = field.effective
    return {
        "name": effective.layer,
        "receptive_field": field.geometry.size,
        "box": field.box,
        "effective": effective.size,
        "first": effective.first,
        "samples": effective.samples,
        "map": effective.map.tolist(),
    }


_DIM = 0.25


def fields_figure(found: Fields, image: NDArray[np.uint8], *, title: str) -> Figure:
    """The image (C, H, W) uint8 once for each layer."""
    count = len(found.layers)
    ratio = image.shape[1] / image.shape[2]
    wide = max(2.5, 4.4 if count == 1 else 0)
    figure = new_figure(max(6.0, wide * count), min(wide * ratio, 8) + 1.5)
    for axes, field in zip(figure.subplots(1, count, squeeze=False).ravel(), found.layers, strict=True):
        draw_field_on(axes, field, image)
    caption(figure, _words(found))
    main_title(figure, title)
    return figure


def draw_field_on(axes: Axes, field: LayerField, image: NDArray[np.uint8]) -> None:
    """One layer: bright where its center unit is sensitive; solid: the effective field, dashed: the theoretical one."""
    from matplotlib.patches import Rectangle

    strength = np.sqrt(field.effective.map / field.effective.map.max())
    lit = _DIM * 255 + (image.astype(np.float64) - _DIM * 255) * (_DIM + (1 - _DIM) * strength)
    # Outside the field, any image fades into gray.
    show_image(axes, lit.clip(0, 255).astype(np.uint8))
    effective = zip(field.effective.first, field.effective.size, strict=True)
    for box, color, style in ((tuple(effective), VERMILION, "-"), (field.box, ORANGE, "--")):
        (top, high), (left, wide) = box
        low, end = max(left, 0), min(left + wide, image.shape[2])
        first, last = max(top, 0), min(top + high, image.shape[1])
        place = (low - 0.5, first - 0.5)
        axes.add_patch(
            Rectangle(place, end - low, last - first, fill=False, color=color, linewidth=1.8, linestyle=style)
        )
    heading(axes, shorten_path(field.effective.layer, 22))
    sizes = show_sizes([round(side) for side in field.effective.size])
    axes.set_xlabel(f"effective {sizes}, theoretical {show_sizes(field.geometry.size)} pixels", fontsize=8.5)


def _words(found: Fields) -> str:
    samples = found.layers[0].effective.samples
    return (
        f"Solid: the effective receptive field of the center unit, {100 * MASS:.4g} % of the gradient along each axis "
        f"(mean of {several(samples, 'random input')}), by which the image is lit; dashed: the theoretical one, as "
        "far as it lies within the image."
    )
