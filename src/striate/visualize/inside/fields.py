"""What units of several layers can see of an image, and what they really look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from striate.account.field.effective import EffectiveField, effective_receptive_field
from striate.account.ledger import Shape
from striate.errors import DataError
from striate.models.untouched import zero_input
from striate.visualize.inside.passes import choose_layer, layer_outputs, no_such_layer, spread
from striate.visualize.inside.sight import Sight, find_sights, sight_of
from striate.wording import show_sizes

LAYERS = 4


@dataclass(frozen=True, eq=False)
class LayerField:
    """Of the center unit of a layer: what it looks at, as measured (`effective`), and what it can see (`box`: first
    pixel and how many along each axis, which may reach over the border)."""

    effective: EffectiveField
    sight: Sight
    box: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Fields:
    """One a layer, in the order of execution."""

    layers: tuple[LayerField, ...]

    @property
    def words(self) -> str:
        """What each layer looks at, of what it can see."""
        said = [
            f"{each.effective.layer} looks at {show_sizes([round(side) for side in each.effective.size])} of "
            f"{show_sizes(each.sight.size)} pixels"
            for each in self.layers
        ]
        return "; ".join(said)

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return {"layers": [_as_json(each) for each in self.layers]}


def find_fields(module: nn.Module, input_shape: Shape, layer: str | None = None) -> Fields:
    """The theoretical and the effective receptive field of the center units of `layer`, or of up to 4 layers with
    maps. `input_shape`: (C, H, W). See `effective_receptive_field`. Raises UsageError for a layer that is not there."""
    if len(input_shape) != 3:
        command = "striate show mnist-cnn field mnist5k#17"
        raise DataError("field", f"inputs of {input_shape}", "images (C, H, W)", command)
    outputs = layer_outputs(module, zero_input(module, input_shape))
    modules = {name for name, _ in module.named_modules()}
    sides = {
        output.name: tuple(output.values.shape[2:])
        for output in outputs
        if output.values.ndim == 4 and output.values[0, 0].numel() > 1 and output.name in modules
    }
    sights = find_sights(module, input_shape)
    if layer is not None:
        name = layer if layer in sides else choose_layer(outputs, layer).name
        names = [name]
    else:
        names = _growing(list(sides), sights)
    if not names or any(name not in sides for name in names):
        raise no_such_layer(layer or "", list(sides))
    found = []
    for name in names:
        sight = sight_of(sights, name)
        center = tuple(side // 2 for side in sides[name])
        with torch.inference_mode(False):
            effective = effective_receptive_field(module, input_shape, name)
        found.append(LayerField(effective, sight, sight.box(center)))
    return Fields(tuple(found))


def _growing(names: list[str], sights: dict[str, Sight]) -> list[str]:
    """Up to 4 of the layers, from the first to the last, each of which sees more than the one before."""
    larger: list[str] = []
    for name in names:
        size = sight_of(sights, name).size
        if not larger or sum(size) > sum(sight_of(sights, larger[-1]).size):
            larger.append(name)
    return [larger[int(k)] for k in np.unique(spread(len(larger), LAYERS).numpy())] if larger else []


def _as_json(field: LayerField) -> dict[str, Any]:
    effective = field.effective
    return {
        "name": effective.layer,
        "receptive_field": field.sight.size,
        "box": field.box,
        "effective": effective.size,
        "first": effective.first,
        "samples": effective.samples,
        "map": effective.map.tolist(),
    }
