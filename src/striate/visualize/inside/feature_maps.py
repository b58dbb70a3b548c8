"""Feature maps: what each layer makes of one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.account.ledger import Shape
from striate.errors import DataError
from striate.visualize.inside.passes import LayerOutput, choose_layer, layer_outputs

MOST = 256
"""So many maps of a layer are kept at most; of one without positions, all units."""


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """What one layer gives for one image.

    `shape`: (C, *spatial), or (F,). `activity`: of every unit, the mean of its absolute values. `units`: unit numbers,
    the most active first; `maps`: theirs, in that order, (K, *spatial), or (K,) of a layer without positions. `low`,
    `high`: of all values of the layer. `silent`: how many units are 0 everywhere.
    """

    name: str
    kind: str
    shape: Shape
    activity: tuple[float, ...]
    units: tuple[int, ...]
    maps: NDArray[np.float32]
    low: float
    high: float
    silent: int

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
    """What every layer, or `layer` alone, gives for one normalized input `x`, (C, *spatial) or (F,), the most active
    units first, at most `most` maps a layer. Raises UsageError for a layer that is not there, DataError for a batch of
    several inputs, or where what comes out is not finite."""
    batch = x[None]
    outputs = layer_outputs(module, batch)
    if not outputs:
        raise DataError("feature maps", "no layer that gives a tensor for each input", "one", "another network")
    chosen = outputs if layer is None else (choose_layer(outputs, layer),)
    return FeatureMaps(tuple(_maps(output, most) for output in chosen))


def _maps(output: LayerOutput, most: int) -> LayerMaps:
    values = output.values[0].cpu().numpy()
    if not np.isfinite(values).all():
        raise DataError(f"layer {output.name}", "values that are not finite", "finite ones", "striate doctor RUN")
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
