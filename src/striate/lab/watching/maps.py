"""Maps as pictures: a byte a number, with the range it stands for."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from striate.lab.watching.step import Step

SMALL = 64
"""Rows and columns of a small picture; of a larger map, means of neighboring numbers are shown."""


@dataclass(frozen=True)
class MapPicture:
    """One map: `data` are its bytes row by row, base64; a byte b stands for (b − 128) / 127 · `scale`. `low`, `high`:
    its smallest and largest number; `activity`: the mean of absolute values. `finite`: whether all numbers are."""

    unit: int
    rows: int
    columns: int
    low: float
    high: float
    scale: float
    activity: float
    finite: bool
    data: str

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return dict(vars(self))


def activities(maps: torch.Tensor) -> NDArray[np.float64]:
    """The mean of absolute values of every map of (maps, rows, columns)."""
    found: NDArray[np.float64] = maps.abs().double().mean((1, 2)).numpy()
    return found


def map_pictures(maps: torch.Tensor, units: list[int], *, small: bool) -> list[MapPicture]:
    """Pictures of some maps of (maps, rows, columns)."""
    chosen = maps[units].float()
    finite = torch.isfinite(chosen).flatten(1).all(1)
    chosen = torch.nan_to_num(chosen, 0.0, 0.0, 0.0)
    lows, highs = chosen.amin((1, 2)), chosen.amax((1, 2))
    active = chosen.abs().mean((1, 2))
    if small and max(chosen.shape[1:]) > SMALL:
        sides = min(chosen.shape[1], SMALL), min(chosen.shape[2], SMALL)
        chosen = functional.adaptive_avg_pool2d(chosen[None], sides)[0]
    scales = chosen.abs().amax((1, 2))
    divisors = torch.where(scales > 0, scales, torch.ones_like(scales))
    values = (chosen / divisors[:, None, None] * 127).round_().add_(128).to(torch.uint8).numpy()
    rows, columns = (int(side) for side in values.shape[1:])
    figures = zip(units, *(t.tolist() for t in (lows, highs, scales, active, finite)), values, strict=True)
    return [
        MapPicture(unit, rows, columns, low, high, scale, mean, whole, b64encode(plane.tobytes()).decode("ascii"))
        for unit, low, high, scale, mean, whole, plane in figures
    ]


def order_of(maps: torch.Tensor, order: str) -> list[int]:
    """Numbers of maps, the most active first, or as they are."""
    if order == "activity":
        return [int(unit) for unit in np.argsort(-activities(maps), kind="stable")]
    return list(range(len(maps)))


@dataclass(frozen=True)
class FilterPicture:
    """The kernel of one map: for each of the first channels of the input a plane as in `MapPicture`, on one scale."""

    unit: int
    channels: int
    rows: int
    columns: int
    scale: float
    planes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return dict(vars(self))


def filters_of(step: Step) -> NDArray[np.float32] | None:
    """The kernels (maps, channels, rows, columns) that a convolution's maps are made by; None of all else, and of
    transposed and 3-D ones."""
    call = step.calls[-1] if step.calls else None
    if call is None or call.name != "convolution" or call.get("transposed", False):
        return None
    weight = call.tensor("weight")
    if weight is None or weight.ndim not in (3, 4) or call.out.shape != step.output.shape:
        return None
    values: NDArray[np.float32] = weight.float().numpy()
    return values if values.ndim == 4 else values[:, :, None]


def filter_pictures(kernels: NDArray[np.float32], units: list[int], most_planes: int = 3) -> list[FilterPicture]:
    """The kernels of some maps, with at most so many planes each."""
    found = []
    for unit in units:
        kernel = kernels[unit]
        shown = kernel[:most_planes]
        scale = float(np.abs(kernel).max(initial=0.0))
        values = (shown / (scale or 1.0) * 127).round().astype(np.int16) + 128
        planes = tuple(b64encode(plane.astype(np.uint8).tobytes()).decode("ascii") for plane in values)
        found.append(FilterPicture(unit, len(kernel), kernel.shape[1], kernel.shape[2], scale, planes))
    return found
