"""The cost of one linear map as a fully connected, a locally connected and a convolutional layer, and as a sparse
matrix."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from striate.account.ledger import Shape
from striate.account.remarks.window_arithmetic import arithmetic
from striate.account.remarks.windows import one_axis
from striate.errors import UsageError
from striate.layers.axis_windows import AxisWindows, same_padding
from striate.models.layer_strings.words import MAX_NUMBER
from striate.records import Finding
from striate.wording import several, show_shape


@dataclass(frozen=True)
class Connection:
    """A layer, or the sparse matrix, that connects the same inputs to the same outputs."""

    name: str
    weights: int
    """Number of stored weights: those that a layer learns, or the entries of the sparse matrix."""
    biases: int
    """Number of stored biases."""
    indices: int
    """Number of stored integers: the column indices and row pointers of the sparse matrix; 0 for layers."""
    operations: int
    """Multiplications and additions for one input: n products take n − 1 additions, and a bias one more."""
    description: str
    """The arithmetic and its meaning, as a sentence."""

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.weights + self.biases


@dataclass(frozen=True)
class Connectivity:
    """The comparison of four `layers`, in this order: fully connected, locally connected, convolution, sparse matrix.

    `unread`: which positions of the input no window reads, with the arithmetic; empty where all are read. `remarks`:
    a finding where the input looks like a picture without its channel.
    """

    in_shape: Shape
    out_shape: Shape
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    bias: bool
    layers: tuple[Connection, ...]
    unread: str = ""
    remarks: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object; each of the `layers` also has its `parameters`."""
        return asdict(self) | {"layers": [asdict(layer) | {"parameters": layer.parameters} for layer in self.layers]}


def compare_connectivity(
    in_shape: Shape,
    kernel: tuple[int, ...],
    *,
    filters: int = 1,
    stride: tuple[int, ...] = (1,),
    padding: tuple[int, ...] | str = (0,),
    bias: bool = False,
) -> Connectivity:
    """The cost of `filters` kernels on a map of `in_shape` (C, *spatial), in four forms that compute the same map.

    `kernel`, `stride`, `padding`: one number for all axes, or one for each; the padding `same` keeps the size at stride
    1. After Goodfellow, Bengio, Courville, "Deep learning", 2016, section 9.2, and its example of 320 × 280 pixels.
    Raises UsageError where numbers are out of range or the kernel is larger than its padded map.
    """
    axes = _axes(in_shape, kernel, filters, stride, padding)
    return Connectivity(
        tuple(in_shape),
        (filters, *(axis.count for axis in axes)),
        _kernels(axes),
        tuple(axis.stride for axis in axes),
        tuple((axis.before, axis.after) for axis in axes),
        bias,
        _layers(in_shape, filters, axes, bias),
        _unread(axes),
        tuple(one_axis(tuple(in_shape))),
    )


def _unread(axes: tuple[AxisWindows, ...]) -> str:
    """`13 of 49 positions, as (7−3)/3+1 = 2.33: 2 windows along each side read 6 of 7`"""
    read = [_read(axis) for axis in axes]
    positions, there = math.prod(axis.size for axis in axes), math.prod(read)
    if there == positions:
        return ""
    said = [
        f"{arithmetic(axis)}, so {several(axis.count, 'window')} {'reads' if axis.count == 1 else 'read'} "
        f"{count:,} of {axis.size:,}"
        for axis, count in zip(axes, read, strict=True)
        if count < axis.size
    ]
    sides = "along each side, " if len(said) == len(axes) > 1 and len(set(said)) == 1 else ""
    return f"{positions - there:,} of {several(positions, 'position')}; {sides}{'; '.join(dict.fromkeys(said))}"


def _read(axis: AxisWindows) -> int:
    """How many positions of an axis are read by at least one window; in closed form, as sides may be long."""
    if axis.stride >= axis.kernel:
        return sum(_inside(axis))
    return max(0, min(axis.size, (axis.count - 1) * axis.stride - axis.before + axis.kernel))


def _layers(in_shape: Shape, filters: int, axes: tuple[AxisWindows, ...], bias: bool) -> tuple[Connection, ...]:
    channels, places = in_shape[0], math.prod(axis.count for axis in axes)
    inputs, outputs = math.prod(in_shape), filters * places
    # Pairs of an output position and an input position that its window reads: counted for each axis, then multiplied.
    entries = channels * filters * math.prod(sum(_inside(axis)) for axis in axes)
    taps = channels * math.prod(axis.kernel for axis in axes)
    biases = outputs if bias else 0
    added = f"; plus {several(outputs, 'bias', 'biases')}" if bias else ""
    kernels = f"{several(filters, 'kernel')} of {show_shape((channels, *_kernels(axes)))}"
    where = f"shared by all {several(places, 'position')}" if places > 1 else "at the only position"
    shared = f"{kernels}, {where}" + (f"; plus {several(filters, 'bias', 'biases')}" if bias else "")
    every = inputs * outputs
    full = (
        f"each of {several(outputs, 'output')} has a weight for each of {several(inputs, 'input')}; "
        f"of these {every:,} all but {entries:,} would be zero"
    )
    own = f"each of {several(outputs, 'output')} has its own {several(taps, 'weight')} for the inputs that it sees"
    kept = (
        f"of the {several(every, 'entry', 'entries')} only the {entries:,} that are not zero, each with its "
        "column (CSR)"
    )
    sliding = outputs * (2 * taps - 1) + biases
    stored = _sparse_operations(entries, filters, axes) + biases
    return (
        Connection("fully connected", every, biases, 0, outputs * (2 * inputs - 1) + biases, f"{full}{added}"),
        Connection("locally connected", taps * outputs, biases, 0, sliding, f"{own}{added}"),
        Connection("convolution", taps * filters, filters if bias else 0, 0, sliding, shared),
        Connection("sparse matrix", entries, biases, entries + outputs + 1, stored, f"{kept}{added}"),
    )


def _kernels(axes: tuple[AxisWindows, ...]) -> tuple[int, ...]:
    return tuple(axis.kernel for axis in axes)


def _inside(axis: AxisWindows) -> list[int]:
    """For each window along an axis, how many of its taps lie on the map and not on padding."""
    firsts = [window * axis.stride - axis.before for window in range(axis.count)]
    return [max(0, min(axis.size, first + axis.kernel) - max(0, first)) for first in firsts]


def _sparse_operations(entries: int, filters: int, axes: tuple[AxisWindows, ...]) -> int:
    """n products and n − 1 additions for each row with n entries; rows that read padding alone need none."""
    rows = filters * math.prod(sum(count > 0 for count in _inside(axis)) for axis in axes)
    return 2 * entries - rows


def _axes(
    in_shape: Shape, kernel: tuple[int, ...], filters: int, stride: tuple[int, ...], padding: tuple[int, ...] | str
) -> tuple[AxisWindows, ...]:
    """The windows along each axis, checked."""
    if not 2 <= len(in_shape) <= 4 or not all(1 <= side <= MAX_NUMBER for side in in_shape):
        raise UsageError(
            "input",
            show_shape(in_shape),
            f"channels and one to three side lengths, each from 1 to {MAX_NUMBER:,}",
            "striate connectivity 1x280x320 --kernel 1x2",
        )
    count = len(in_shape) - 1
    kernels, strides = _each("kernel", kernel, count, 1), _each("stride", stride, count, 1)
    if not 1 <= filters <= MAX_NUMBER:
        raise UsageError("filters", str(filters), f"from 1 to {MAX_NUMBER:,}", "--filters 1")
    if isinstance(padding, str):
        if padding != "same":
            raise UsageError("pad", repr(padding), "whole numbers or same", "--pad same")
        if max(strides) > 1:
            raise UsageError("pad", "same with a stride above 1", "stride 1, which keeps the size", "--stride 1")
        pads = [same_padding(k) for k in kernels]
    else:
        pads = [(pad, pad) for pad in _each("pad", padding, count, 0)]
    sides = zip(in_shape[1:], kernels, strides, pads, strict=True)
    axes = tuple(AxisWindows(side, k, s, before, after) for side, k, s, (before, after) in sides)
    for axis in axes:
        if axis.steps < 0:
            room = axis.padded
            fitting = "x".join(str(min(a.kernel, a.padded)) for a in axes)
            raise UsageError(
                "kernel",
                f"{axis.kernel} on a side of {axis.size} + {axis.before + axis.after} padding = {room}",
                f"at most {room}",
                f"--kernel {fitting}",
            )
    return axes


def _each(name: str, given: tuple[int, ...], count: int, low: int) -> tuple[int, ...]:
    """One number an axis."""
    values = given * count if len(given) == 1 else given
    if len(values) != count or not all(low <= value <= MAX_NUMBER for value in values):
        fitting = "x".join(str(min(MAX_NUMBER, max(low, value))) for value in (*given, *[given[-1]] * count)[:count])
        written = "x".join(map(str, given))
        raise UsageError(
            name, written, f"a whole number from {low} to {MAX_NUMBER:,}, or {count} of them", f"--{name} {fitting}"
        )
    return values
