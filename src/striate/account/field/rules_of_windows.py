"""Receptive fields through operations that combine neighboring positions: windows, padding, interpolation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from striate.account.field import intervals
from striate.account.field.intervals import Fields, Rule
from striate.account.field.rules_of_shapes import reshaped
from striate.account.field.window import CONVOLUTIONS, POOLS, Window, read_window
from striate.observe.torch_calls import Operation


def through(fields: Fields, window: Window, ndim: int, out_ndim: int) -> Fields:
    """Fields of a result with `out_ndim` dimensions, computed from windows of a tensor of `ndim` dimensions."""
    axes = len(window.sizes)
    if window.function in CONVOLUTIONS or not window.function:
        channel = ndim - axes - 1
        fields = intervals.merged(fields, [channel])
    for axis, length in enumerate(window.sizes):
        dim = ndim - axes + axis
        # Where fields are in order, the two ends of a window have its smallest and its largest position.
        few = window.many(axis) and all(intervals.in_order(seen, dim) for seen in fields)
        index, there = (window.ends(axis), None) if few else window.index(axis)
        scale = 1 / window.stride[axis] if window.transposed else window.stride[axis]
        fields = intervals.windowed(fields, dim, length, index, scale, there)
    assert ndim == out_ndim
    return fields


def _window(operation: Operation, given: list[Fields]) -> Fields:
    window = read_window(operation)
    assert window is not None
    x = next(operation.inputs())
    return through(given[0], window, x.ndim, operation.outputs()[0].ndim)


def _adaptive(operation: Operation, given: list[Fields]) -> Fields:
    x, out = next(operation.inputs()), operation.outputs()[0]
    fields = given[0]
    for dim in range(x.ndim - len(operation.args[1]), x.ndim):
        outputs, length = out.shape[dim], x.shape[dim]
        fields = intervals.windowed(fields, dim, length, intervals.adapting(outputs, length), length / outputs)
    return fields


def _upsampled(operation: Operation, given: list[Fields]) -> Fields:
    x, out = next(operation.inputs()), operation.outputs()[0]
    fields = given[0]
    for dim in range(2, x.ndim):
        outputs, length = out.shape[dim], x.shape[dim]
        scale = _scale(operation, dim, x.ndim) or length / outputs
        inside = _interpolated(operation, outputs, length, scale).clip(0, length - 1).astype(np.int64)
        fields = intervals.windowed(fields, dim, length, inside, length / outputs)
    return fields


def _scale(operation: Operation, dim: int, ndim: int) -> float | None:
    """Input positions per output position, where the call has a scale factor instead of a size."""
    name = "scales" if ndim == 3 else f"scales_{'dhw'[dim - ndim]}"
    factor = operation.get(name)
    return 1 / factor if factor else None


def _interpolated(operation: Operation, outputs: int, length: int, scale: float) -> intervals.Array:
    """The positions that each output is interpolated from; a position with weight 0 is replaced by the nearest one."""
    at = np.arange(outputs, dtype=np.float64)
    if "nearest" in operation.name:
        at = at + 0.5 if "exact" in operation.name else at
        return np.floor(np.round(at * scale, 9))[:, None]
    corners = bool(operation.get("align_corners", False))
    if corners:
        scale = (length - 1) / max(1, outputs - 1)
    # Rounded, so that a position on the grid is recognized as such.
    at = np.round(at * scale if corners else (at + 0.5) * scale - 0.5, 9)[:, None]
    kernel = 2 if "bicubic" in operation.name else 1
    width = max(1.0, scale) if operation.name.endswith("_aa") else 1.0
    reach = math.ceil(kernel * width)
    near = np.floor(at) + np.arange(1 - reach, reach + 1)
    # Both kernels, the triangle and Keys's cubic, are 0 at all whole distances but 0.
    distance = np.round(np.abs(near - at) / width, 9)
    seen = (distance < kernel) & ((distance == 0) | (distance % 1 != 0))
    return np.where(seen, near, np.rint(at))


def padded(fields: Fields, shape: Sequence[int], pads: Sequence[int]) -> Fields:
    """Fields of a tensor of `shape` after padding by `pads`, as torch.nn.functional.pad takes them."""
    for pair in range(len(pads) // 2):
        dim, before, after = len(shape) - 1 - pair, pads[2 * pair], pads[2 * pair + 1]
        if before or after:
            index = np.arange(-before, shape[dim] + after, dtype=np.int64)[:, None]
            fields = intervals.windowed(fields, dim, shape[dim], index, 1.0)
    return fields


def _pad(operation: Operation, given: list[Fields]) -> Fields:
    pads = operation.get("pad", None) or operation.get("padding")
    return padded(given[0], tuple(next(operation.inputs()).shape), pads)


def _shuffled(operation: Operation, given: list[Fields]) -> Fields:
    """Channels to finer positions (pixel shuffle): each has the field of the position that it comes from."""
    x, factor = next(operation.inputs()), operation.args[1]
    fields = intervals.merged(given[0], [x.ndim - 3])
    for dim in (x.ndim - 2, x.ndim - 1):
        index = np.arange(x.shape[dim] * factor, dtype=np.int64)[:, None] // factor
        fields = intervals.windowed(fields, dim, x.shape[dim], index, 1 / factor)
    return fields


def _unshuffled(operation: Operation, given: list[Fields]) -> Fields:
    """Positions to channels (pixel unshuffle): a position has the union of the fields that were joined in it."""
    x, factor = next(operation.inputs()), operation.args[1]
    fields = intervals.merged(given[0], [x.ndim - 3])
    for dim in (x.ndim - 2, x.ndim - 1):
        fields = intervals.windowed(
            fields, dim, x.shape[dim], intervals.sliding(x.shape[dim] // factor, factor, factor, 0, 1), factor
        )
    return fields


def _columns(operation: Operation, given: list[Fields]) -> Fields:
    """Windows as columns (N, C·kernel, windows): all numbers of a column have the field of its window."""
    x, out = next(operation.inputs()), operation.outputs()[0]
    kernel, dilation, padding, stride = operation.args[1:5]
    fields, counts = intervals.merged(given[0], [x.ndim - 3]), []
    for axis, dim in enumerate((x.ndim - 2, x.ndim - 1)):
        counts.append((x.shape[dim] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1)
        index = intervals.sliding(counts[axis], kernel[axis], stride[axis], padding[axis], dilation[axis])
        fields = intervals.windowed(fields, dim, x.shape[dim], index, stride[axis])
    return reshaped(fields, (*out.shape[:-1], *counts), tuple(out.shape))


def _folded(operation: Operation, given: list[Fields]) -> Fields:
    """Columns added up to a map: each position has the union of the fields of the windows that contain it."""
    x = next(operation.inputs())
    size, kernel, dilation, padding, stride = operation.args[1:6]
    spans = [gap * (side - 1) + 1 for gap, side in zip(dilation, kernel, strict=True)]
    counts = [(size[axis] + 2 * padding[axis] - spans[axis]) // stride[axis] + 1 for axis in range(2)]
    fields = reshaped(intervals.merged(given[0], [x.ndim - 2]), tuple(x.shape), (*x.shape[:-1], *counts))
    for axis in range(2):
        numbers = (size[axis], kernel[axis], stride[axis], padding[axis], dilation[axis])
        index, there = intervals.spreading(*numbers)
        fields = intervals.windowed(fields, x.ndim - 1 + axis, counts[axis], index, 1 / stride[axis], there)
    return fields


def _mixed_channels(operation: Operation, given: list[Fields]) -> Fields:
    """Channels in the order (groups, channels of a group), reordered to (channels of a group, groups)."""
    x, groups = next(operation.inputs()), operation.args[1]
    index = np.arange(x.shape[1], dtype=np.int64).reshape(groups, -1).T.reshape(-1, 1)
    return intervals.windowed(given[0], 1, x.shape[1], index, 1.0)


RULES: tuple[tuple[Rule, str], ...] = (
    (_window, " ".join((*sorted(CONVOLUTIONS), *sorted(POOLS)))),
    (_adaptive, "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d"),
    (_upsampled, "upsample_nearest1d upsample_nearest2d upsample_nearest3d"),
    (_upsampled, "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d"),
    (_upsampled, "upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d"),
    (_upsampled, "_upsample_bilinear2d_aa _upsample_bicubic2d_aa"),
    (_pad, "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d"),
    (_pad, "replication_pad1d replication_pad2d replication_pad3d"),
    (_shuffled, "pixel_shuffle"),
    (_unshuffled, "pixel_unshuffle"),
    (_columns, "im2col"),
    (_folded, "col2im"),
    (_mixed_channels, "channel_shuffle native_channel_shuffle"),
)
