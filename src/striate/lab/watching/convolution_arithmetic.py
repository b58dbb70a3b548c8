"""The arithmetic of convolutions, and the windows: positions, values, and which of them are padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from striate.lab.watching.pass_recorder import Call
from striate.lab.watching.unit_records import Line, Patch, UnitArithmetic, in_sum, written
from striate.layers.convolution import LocallyConnected
from striate.wording import several

Array = NDArray[np.float64]
Index = NDArray[np.int64]

MOST_NUMBERS = 2500
"""Largest number of values in the patches of a record; of further channels it has only the sums."""


@dataclass(frozen=True)
class Positions:
    """Rows and columns of the map under a window, and which of them are on the map."""

    rows: Index
    columns: Index
    rows_there: NDArray[np.bool_]
    columns_there: NDArray[np.bool_]

    @property
    def outside(self) -> NDArray[np.bool_]:
        """(rows, columns): whether the position is outside the map."""
        return ~(self.rows_there[:, None] & self.columns_there[None, :])

    def values(self, maps: torch.Tensor, fill: float = 0.0) -> Array:
        """(channels, rows, columns) in double precision, of maps (channels, height, width)."""
        rows = torch.from_numpy(np.where(self.rows_there, self.rows, 0))
        columns = torch.from_numpy(np.where(self.columns_there, self.columns, 0))
        found: Array = maps[:, rows][:, :, columns].double().numpy()
        return np.where(self.outside, fill, found)


def in_plane(x: torch.Tensor) -> torch.Tensor:
    """(1, C, H, W) or (1, C, L) as maps (C, H, W): of height 1 in the second case."""
    return x[0] if x.ndim == 4 else x[0].unsqueeze(-2)


def sliding_window(
    at: int, kernel: int, stride: int, before: int, dilation: int, size: int
) -> tuple[Index, NDArray[np.bool_]]:
    """The positions of one window along an axis of `size`, and which are on the map."""
    positions: Index = at * stride - before + np.arange(kernel, dtype=np.int64) * dilation
    return positions, (positions >= 0) & (positions < size)


def transposed_window(
    at: int, kernel: int, stride: int, before: int, dilation: int, size: int
) -> tuple[Index, NDArray[np.bool_]]:
    """The input positions whose kernels reach the output `at` in a transposed convolution, and which of them exist."""
    offset = at + before - np.arange(kernel, dtype=np.int64) * dilation
    positions: Index = offset // stride
    return positions, (offset % stride == 0) & (positions >= 0) & (positions < size)


def two(value: int | Sequence[int], axes: int, missing: int) -> tuple[int, int]:
    """A setting, a number or one for each axis, as (rows, columns); `missing` for the rows of a map of one axis."""
    numbers = [value] if isinstance(value, int) else list(value)
    return (numbers[0] if axes == 2 else missing), numbers[-1]


def window_at(
    at: tuple[int, ...],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int],
    gaps: tuple[int, int],
    maps: torch.Tensor,
    *,
    transposed: bool = False,
) -> Positions:
    """The window of the output at (0, c, *place) on maps (channels, height, width); all settings are (rows,
    columns)."""
    place = at[2:] if len(at) == 4 else (0, at[2])
    slide = transposed_window if transposed else sliding_window
    rows, columns = (slide(place[i], kernel[i], strides[i], pads[i], gaps[i], int(maps.shape[1 + i])) for i in range(2))
    return Positions(rows[0], columns[0], rows[1], columns[1])


def explain_convolution(call: Call, at: tuple[int, ...], module: nn.Module | None) -> UnitArithmetic | None:
    """The number at (0, k, *place) of a convolution's output; None for more than two spatial axes."""
    x, weight, bias = call.tensor("input"), call.tensor("weight"), call.tensor("bias")
    if x is None or weight is None or weight.ndim not in (3, 4):
        return None
    groups, transposed = int(call.get("groups", 1)), bool(call.get("transposed", False))
    each = weight.shape[1] if transposed else weight.shape[0] // groups
    group, within = divmod(at[1], each)
    inputs = x.shape[1] // groups
    first = group * inputs
    kernels = weight[first : first + inputs, within] if transposed else weight[at[1]]
    kernels = kernels if kernels.ndim == 3 else kernels.unsqueeze(1)
    positions = _positions(call, weight, in_plane(x), at)
    values = positions.values(in_plane(x)[first : first + inputs])
    offset = float(bias[at[1]]) if bias is not None else None
    shown = _moved(positions, module, in_plane(x).shape)
    found = products(values, kernels.double().numpy(), shown, first)
    words = _words(weight.shape[1] if not transposed else inputs, groups, group, first, shown, module)
    if transposed:
        words += " Transposed: brackets are where no number of the input reaches this place."
    return with_bias(found, words, offset, float(call.out[at]))


def _positions(call: Call, weight: torch.Tensor, maps: torch.Tensor, at: tuple[int, ...]) -> Positions:
    """The window on the input map of the operation."""
    axes = weight.ndim - 2
    kernel = two(tuple(weight.shape[2:]), axes, 1)
    strides, pads, gaps = (
        two(call.get(name), axes, missing) for name, missing in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    return window_at(at, kernel, strides, pads, gaps, maps, transposed=bool(call.get("transposed", False)))


def _moved(positions: Positions, module: nn.Module | None, shape: Sequence[int]) -> Positions:
    """The positions on the map without the border that the layer's padding mode added (zeros are added by the operation
    itself), and which of them are on the map."""
    if getattr(module, "padding_mode", "zeros") == "zeros":
        return positions
    pads = list(getattr(module, "_reversed_padding_repeated_twice", ()))  # columns first: before, after
    pads = [*pads, *[0] * (4 - len(pads))]
    rows, columns = positions.rows - pads[2], positions.columns - pads[0]
    height, width = int(shape[1]) - pads[2] - pads[3], int(shape[2]) - pads[0] - pads[1]
    return Positions(rows, columns, (rows >= 0) & (rows < height), (columns >= 0) & (columns < width))


def _words(channels: int, groups: int, group: int, first: int, positions: Positions, module: nn.Module | None) -> str:
    over = several(channels, "channel")
    text = f"Every number under the window times the weight of the kernel there, added up over {over}"
    if groups > 1:
        text += f" of {groups * channels}: those of group {group + 1} of {groups}, {first} to {first + channels - 1}"
    text += "."
    gap = max((abs(int(p[1] - p[0])) for p in (positions.rows, positions.columns) if len(p) > 1), default=1)
    if gap > 1:
        text += f" Dilation: the numbers under the kernel are {gap} places apart."
    if positions.outside.any():
        mode = getattr(module, "padding_mode", "zeros")
        beyond = {
            "zeros": "0",
            "reflect": "the map mirrored at its outermost numbers",
            "replicate": "the nearest number",
            "circular": "the other side of the map",
        }.get(str(mode), "padding")
        text += f" Brackets: beyond the border, where padding is {beyond}."
    return text


def explain_local(layer: LocallyConnected, call: Call, x: torch.Tensor, at: tuple[int, ...]) -> UnitArithmetic | None:
    """The number at (0, k, *place) of a locally connected layer's output; None for three spatial axes."""
    axes = len(layer.in_size)
    if axes > 2:
        return None
    kernel, strides = two(layer.kernel_size, axes, 1), two(layer.stride, axes, 1)
    pads = two([before for before, _ in layer.pads], axes, 0)
    maps = in_plane(x)
    positions = window_at(at, kernel, strides, pads, (1, 1), maps)
    kernels = layer.weight.detach()[(*at[2:], at[1])]
    kernels = kernels if axes == 2 else kernels.unsqueeze(1)
    offset = None if layer.bias is None else float(layer.bias.detach()[at[1:]])
    found = products(positions.values(maps), kernels.double().numpy(), positions, 0)
    words = _words(len(maps), 1, 0, 0, positions, None) + " The kernel belongs to this place alone."
    return with_bias(found, words, offset, float(call.out[at]))


@dataclass(frozen=True)
class Products:
    """The products of a window: patches of some channels, and the sums of all."""

    patches: tuple[Patch, ...]
    channels: tuple[tuple[int, float], ...]
    total: float


def products(values: Array, kernels: Array, positions: Positions, first: int) -> Products:
    """Values (channels, rows, columns) times kernels of that shape; `first`: the number of the first channel."""
    sums = (values * kernels).sum(axis=(1, 2))
    most = max(1, MOST_NUMBERS // max(1, values[0].size))
    order = np.argsort(-np.abs(sums), kind="stable")[:most] if len(sums) > most else np.arange(len(sums))
    patches = tuple(
        patch(first + int(c), values[c], positions, weights=kernels[c], total=float(sums[c])) for c in order
    )
    return Products(patches, tuple((first + c, float(s)) for c, s in enumerate(sums)), float(sums.sum()))


def patch(
    channel: int,
    values: Array,
    positions: Positions,
    *,
    weights: Array | None = None,
    total: float | None = None,
    winner: tuple[int, int] | None = None,
) -> Patch:
    """The record of one channel under a window."""
    return Patch(
        channel,
        tuple(map(int, positions.rows)),
        tuple(map(int, positions.columns)),
        tuple(tuple(map(float, row)) for row in values),
        tuple(tuple(map(bool, row)) for row in positions.outside),
        None if weights is None else tuple(tuple(map(float, row)) for row in weights),
        total,
        winner,
    )


def with_bias(found: Products, words: str, bias: float | None, output: float) -> UnitArithmetic:
    """The sum of all products, and the bias added to it."""
    sums = [value for _, value in found.channels]
    text = f"the sums of {several(len(sums), 'channel')}"
    if len(sums) == 1:
        text = several(sum(len(row) for patch in found.patches for row in patch.values), "product")
    elif len(sums) <= 8:
        text = " + ".join(in_sum(v) if i else written(v) for i, v in enumerate(sums))
    lines = [Line("sum of all products", text, found.total)]
    value = found.total
    if bias is not None:
        value += bias
        lines.append(Line("with the bias", f"{written(found.total)} + {in_sum(bias)}", value))
    return UnitArithmetic(
        "convolution", words, output, value, patches=found.patches, channels=found.channels, lines=tuple(lines)
    )
