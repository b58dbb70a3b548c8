"""Operations that slide windows over a map: convolutions and poolings, read from their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from striate.account.field.intervals import Index, Shape, sliding, spreading
from striate.observe.torch_calls import Operation

POOLS = {
    "max_pool1d",
    "max_pool2d_with_indices",
    "max_pool3d_with_indices",
    "avg_pool2d",
    "avg_pool3d",
}
PADDING = "pad"
CONVOLUTIONS = {"convolution", "_convolution", "convolution_overrideable", "cudnn_convolution"}


_MANY = 1_000_000  # positions of all windows along an axis


@dataclass(frozen=True)
class Window:
    """How a convolution or pooling slides over a map; one number for each axis."""

    sizes: Shape
    """Number of input positions."""
    outputs: Shape
    """Number of output positions."""
    kernel: Shape
    stride: Shape
    before: Shape
    """Padding before the first position."""
    after: Shape
    """Padding after the last position."""
    dilation: Shape
    transposed: bool = False
    groups: int = 1
    bias: bool | None = None
    channels: int | None = None
    """Input channels of a convolution."""
    function: str = ""

    def index(self, axis: int) -> tuple[Index, Index | None]:
        """Input positions of each output along one axis, and a mask of those that count; None: all count."""
        numbers = (self.outputs, self.kernel, self.stride, self.before, self.dilation)
        arguments = [of_axis[axis] for of_axis in numbers]
        return spreading(*arguments) if self.transposed else (sliding(*arguments), None)

    def many(self, axis: int) -> bool:
        """Whether `index` would take too much memory, so that `ends` is used instead."""
        return not self.transposed and self.outputs[axis] * self.kernel[axis] > _MANY

    def ends(self, axis: int) -> Index:
        """The first and the last input position of each output along one axis, as two columns."""
        first = sliding(self.outputs[axis], 1, self.stride[axis], self.before[axis], 1)
        return np.concatenate([first, first + (self.kernel[axis] - 1) * self.dilation[axis]], axis=1)

    def leftover(self) -> Shape:
        """Per axis, how many positions of the map (padding apart) no window covers."""
        left = []
        for axis, size in enumerate(self.sizes):
            if self.many(axis):
                left.append(size - _covered(self.ends(axis), self.dilation[axis], size))
                continue
            index, there = self.index(axis)
            covered = np.unique(index if there is None else index[there])
            left.append(size - int(((covered >= 0) & (covered < size)).sum()))
        return tuple(left)

    def without_leading(self, axes: int) -> Window | None:
        """The window over the last `axes` axes; None unless each axis before them has a single position.
        (torch runs 1-D layers on maps of height 1.)"""
        extra = len(self.sizes) - axes
        if extra < 0 or any(size > 1 for size in self.sizes[:extra]):
            return None
        parts = (self.sizes, self.outputs, self.kernel, self.stride, self.before, self.after, self.dilation)
        sizes, outputs, kernel, stride, before, after, dilation = (part[extra:] for part in parts)
        described = (self.transposed, self.groups, self.bias, self.channels, self.function)
        return Window(sizes, outputs, kernel, stride, before, after, dilation, *described)


def _covered(ends: Index, dilation: int, size: int) -> int:
    """How many of the positions 0 to `size` − 1 are covered by windows with these first and last positions."""
    base, stop = int(ends[0, 0]), int(ends[-1, 1]) + dilation
    changes = np.zeros((stop - base) // dilation * dilation + dilation, np.int64)
    np.add.at(changes, ends[:, 0] - base, 1)
    np.add.at(changes, ends[:, 1] + dilation - base, -1)
    covered = changes.reshape(-1, dilation).cumsum(0).ravel() > 0
    return int(covered[max(0, -base) : max(0, size - base)].sum())


def read_window(operation: Operation) -> Window | None:
    """The window of an operation; None where it has none."""
    if operation.name in CONVOLUTIONS:
        return _convolution(operation)
    return _pooling(operation) if operation.name in POOLS else None


def read_padding(operation: Operation) -> Window | None:
    """The padding that an operation adds to a map, as a window of one position; None if the operation does not pad."""
    if operation.name != "constant_pad_nd" and not operation.name.startswith(("reflection_pad", "replication_pad")):
        return None
    x, out = operation.args[0], operation.outputs()[0]
    return padding_window(tuple(x.shape), tuple(out.shape), operation.args[1])


def padding_window(shape: Shape, padded: Shape, pads: Sequence[int]) -> Window | None:
    """Padding (as torch.nn.functional.pad takes it: last dimension first) as a window of one position; None where a
    dimension other than the spatial ones of (N, C, *spatial) is padded."""
    axes = len(shape) - 2
    if axes < 1 or len(pads) > 2 * axes:
        return None
    full = [*pads, *[0] * (2 * axes - len(pads))]
    before, after = (tuple(full[2 * i + end] for i in reversed(range(axes))) for end in (0, 1))
    ones = (1,) * axes
    return Window(shape[2:], padded[2:], ones, ones, before, after, ones, function=PADDING)


def _each(value: int | Sequence[int], axes: int) -> Shape:
    numbers = (value,) if isinstance(value, int) else tuple(value)
    return numbers * axes if len(numbers) == 1 else numbers


def _convolution(operation: Operation) -> Window:
    x, weight = operation.get("input", operation.args[0]), operation.get("weight", operation.args[1])
    axes = weight.ndim - 2
    padding = _each(operation.get("padding", 0), axes)
    return Window(
        tuple(x.shape[-axes:]),
        tuple(operation.out.shape[-axes:]),
        tuple(weight.shape[2:]),
        _each(operation.get("stride", 1), axes),
        padding,
        padding,
        _each(operation.get("dilation", 1), axes),
        bool(operation.get("transposed", False)),
        int(operation.get("groups", 1)),
        operation.get("bias") is not None,
        int(x.shape[-axes - 1]),
        operation.name,
    )


def _pooling(operation: Operation) -> Window:
    x, out = operation.args[0], operation.outputs()[0]
    axes = 1 if operation.name == "max_pool1d" else 2 if "2d" in operation.name else 3
    kernel = _each(operation.get("kernel_size"), axes)
    padding = _each(operation.get("padding", 0), axes)
    return Window(
        tuple(x.shape[-axes:]),
        tuple(out.shape[-axes:]),
        kernel,
        _each(operation.get("stride") or kernel, axes),
        padding,
        padding,
        _each(operation.get("dilation", 1), axes),
        function=operation.name,
    )
