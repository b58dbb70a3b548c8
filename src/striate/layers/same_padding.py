"""Exact "same" padding for any stride, dilation and kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from striate.errors import ShapeError, UsageError
from striate.layers.windows import Size, check_positive, per_axis


class SamePadding(nn.Module):
    """Pads (N, C, *spatial), 1 to 3 spatial axes, so that the convolution or pooling behind it gives ⌈size / stride⌉.

    Give it the kernel, stride and dilation of that layer, whose own padding is 0. Along an axis
    total = max((⌈size/stride⌉ − 1)·stride + dilation·(kernel − 1) + 1 − size, 0); half of it goes before, and the odd
    one behind. So the padding depends on the size of the input: TensorFlow's SAME, which `padding="same"` of
    `torch.nn.Conv2d` gives for stride 1 only.
    `value` is what is padded: 0, or `-math.inf` before a max pooling, so that padding never is the largest. An average
    pooling behind it counts the padded zeros. ShapeError for another number of axes, an empty axis, and where with
    −∞ a dilated window would lie in the padding alone.
    Source: the documentation of tf.nn.convolution.
    """

    def __init__(self, kernel_size: Size, stride: Size = 1, dilation: Size = 1, value: float = 0.0) -> None:
        super().__init__()
        for name, size in (("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation)):
            check_positive(name, size)
        self.kernel_size = kernel_size
        self.stride = stride
        self.dilation = dilation
        if math.isnan(value):
            raise UsageError("value", "nan", "0, or -math.inf before a max pooling", "value=0.0")
        self.value = value

    def pads(self, size: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """How much goes before and behind a map of `size`, one entry a spatial axis."""
        axes = len(size)
        kernel, stride = per_axis(self.kernel_size, axes, "kernel_size"), per_axis(self.stride, axes, "stride")
        dilation = per_axis(self.dilation, axes, "dilation")
        totals = [
            max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
            for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
        ]
        return tuple((total // 2, total - total // 2) for total in totals)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[2:]
        if not 1 <= len(size) <= 3 or 0 in size:
            expected = "(N, C, *spatial) with 1 to 3 spatial axes, none empty"
            raise ShapeError(
                "input of SamePadding", f"shape {tuple(x.shape)}", expected, "x[None] for one sample alone"
            )
        pads = self.pads(size)
        if self.value == -math.inf:
            self._refuse_windows_of_padding(size, pads)
        flat = [pad for pair in reversed(pads) for pad in pair]
        return functional.pad(x, flat, value=self.value) if any(flat) else x

    def extra_repr(self) -> str:
        value = "" if self.value == 0 else f", value={self.value}"
        return f"{self.kernel_size}, stride={self.stride}, dilation={self.dilation}{value}"

    def _refuse_windows_of_padding(self, size: Sequence[int], pads: tuple[tuple[int, int], ...]) -> None:
        axes = len(size)
        kernel, stride = per_axis(self.kernel_size, axes, "kernel_size"), per_axis(self.stride, axes, "stride")
        dilation = per_axis(self.dilation, axes, "dilation")
        for n, k, s, d, (before, _) in zip(size, kernel, stride, dilation, pads, strict=True):
            # Undilated windows always meet the map, and so do all that fit into it.
            if d == 1 or d * (k - 1) < n:
                continue
            starts = range(-before, -(-n // s) * s - before, s)
            if not all(any(0 <= start + d * tap < n for tap in range(k)) for start in starts):
                got = f"a window of {k} positions, {d} apart, on a map of {n}: one lies in the padding alone"
                raise ShapeError("SamePadding", got, f"a dilation of less than {n}", f"dilation={max(1, n // 2)}")
