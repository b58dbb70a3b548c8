"""The arithmetic of pooling: largest, mean, root of the sum of squares, over windows or whole maps."""

from __future__ import annotations

import numpy as np
import torch

from striate.lab.watching.convolution_arithmetic import MOST_NUMBERS, Array, Positions, in_plane, patch, two, window_at
from striate.lab.watching.pass_recorder import Call
from striate.lab.watching.unit_records import Line, UnitArithmetic, in_sum, written
from striate.layers.pooling import L2Pool
from striate.layers.windows import per_axis
from striate.wording import several

_MOST_WRITTEN = 9


def explain_max_pool(call: Call, at: tuple[int, ...]) -> UnitArithmetic | None:
    """The number at (0, c, *place) of a max pooling, by windows or to a given size."""
    x = call.tensor("self")
    if x is None or x.ndim not in (3, 4):
        return None
    positions = _adapted(call, x, at) if call.name.startswith("adaptive") else _window(call, x, at)
    values = positions.values(in_plane(x)[at[1] : at[1] + 1], fill=-np.inf)[0]
    row, column = divmod(int(values.argmax()), values.shape[1])
    value = float(values[row, column])
    words = "The largest number under the window." + _cut(positions, "which never is the largest")
    line = Line("largest", f"max({_listed(values[~positions.outside])})", value)
    shown = patch(at[1], np.where(positions.outside, 0, values), positions, winner=(row, column))
    patches = (shown,) if values.size <= MOST_NUMBERS else ()
    return UnitArithmetic("window", words, float(call.out[at]), value, patches=patches, lines=(line,))


def explain_average_pool(call: Call, at: tuple[int, ...]) -> UnitArithmetic | None:
    """The number at (0, c, *place) of an average pooling; the layer decides whether padding counts."""
    x = call.tensor("self")
    if x is None or x.ndim not in (3, 4):
        return None
    positions = _window(call, x, at)
    # With ceil_mode the last window reaches beyond the padding too; what lies there never counts.
    pads, sides = two(call.get("padding", 0), x.ndim - 2, 0), in_plane(x).shape[1:]
    counted = [
        int(((p >= -pad) & (p < side + pad)).sum())
        for p, pad, side in zip((positions.rows, positions.columns), pads, sides, strict=True)
    ]
    inside = int((~positions.outside).sum())
    count = counted[0] * counted[1] if call.get("count_include_pad", True) else inside
    divisor = call.get("divisor_override")
    return _mean(call, x, at, positions, int(divisor or count))


def explain_adaptive_pool(call: Call, at: tuple[int, ...]) -> UnitArithmetic | None:
    """The number at (0, c, *place) of an average pooling to a given size, or of the mean of whole maps."""
    x = call.tensor("self")
    if x is None or x.ndim not in (3, 4):
        return None
    positions = _adapted(call, x, at)
    return _mean(call, x, at, positions, positions.outside.size)


def _adapted(call: Call, x: torch.Tensor, at: tuple[int, ...]) -> Positions:
    """The window of an adaptive pooling, whose windows depend on the number of outputs."""
    place = at[2:] if len(at) == 4 else (0, at[2]) if len(at) == 3 and x.ndim == 3 else (0, 0)
    sides = in_plane(x).shape[1:]
    outputs = in_plane(call.out).shape[1:] if call.out.ndim == x.ndim else (1, 1)
    spans = [
        np.arange(o * side // n, -(-(o + 1) * side // n), dtype=np.int64)
        for o, side, n in zip(place, sides, outputs, strict=True)
    ]
    there = [np.ones(len(span), bool) for span in spans]
    return Positions(spans[0], spans[1], there[0], there[1])


def explain_l2_pool(layer: L2Pool, call: Call, x: torch.Tensor, at: tuple[int, ...]) -> UnitArithmetic | None:
    """The number at (0, c, *place) of an L2 pooling."""
    axes = x.ndim - 2
    if axes > 2:
        return None
    kernel, strides, pads = (
        two(per_axis(value, axes, "size"), axes, missing)
        for value, missing in ((layer.kernel_size, 1), (layer.stride, 1), (layer.padding, 0))
    )
    positions = window_at(at, kernel, strides, pads, (1, 1), in_plane(x))
    values = positions.values(in_plane(x)[at[1] : at[1] + 1])[0]
    total = float(np.square(values).sum())
    words = "The root of the sum of squares under the window." + _cut(positions, "which adds nothing")
    lines = (
        Line("sum of squares", f"{_listed(values[~positions.outside], '² + ')}²", total),
        Line("root", f"√{written(total)}", float(np.sqrt(total))),
    )
    shown = patch(at[1], values, positions)
    return UnitArithmetic("window", words, float(call.out[at]), lines[-1].value, patches=(shown,), lines=lines)


def _mean(call: Call, x: torch.Tensor, at: tuple[int, ...], positions: Positions, count: int) -> UnitArithmetic:
    values = positions.values(in_plane(x)[at[1] : at[1] + 1])[0]
    total = float(values.sum())
    words = f"The mean of {several(int((~positions.outside).sum()), 'number')} under the window." + _cut(
        positions, "which counts as 0" if count >= values.size else "which does not count"
    )
    lines = (
        Line("sum", _listed(values[~positions.outside], " + "), total),
        Line("mean", f"{written(total)} / {count}", total / count),
    )
    patches = (patch(at[1], values, positions),) if values.size <= MOST_NUMBERS else ()
    return UnitArithmetic("window", words, float(call.out[at]), total / count, patches=patches, lines=lines)


def _window(call: Call, x: torch.Tensor, at: tuple[int, ...]) -> Positions:
    axes, size = x.ndim - 2, call.get("kernel_size")
    settings = (size, 1), (call.get("stride") or size, 1), (call.get("padding", 0), 0), (call.get("dilation", 1), 1)
    kernel, strides, pads, gaps = (two(value, axes, missing) for value, missing in settings)
    return window_at(at, kernel, strides, pads, gaps, in_plane(x))


def _cut(positions: Positions, what: str) -> str:
    return f" Brackets: beyond the border, {what}." if positions.outside.any() else ""


def _listed(values: Array, joiner: str = ", ") -> str:
    numbers = [float(v) for v in values.ravel()]
    if len(numbers) <= _MOST_WRITTEN:
        join = in_sum if "+" in joiner else written
        return joiner.join(join(v) if place else written(v) for place, v in enumerate(numbers))
    return several(len(numbers), "number")
