"""Locally connected layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from striate.errors import ShapeError, UsageError
from striate.layers.axis_windows import AxisWindows, same_padding
from striate.layers.windows import Size, per_axis


class LocallyConnected(nn.Module):
    """A convolution whose weights are not shared: a filter bank of its own at every output position.

    (N, C, *in_size) to (N, out_channels, *out_size), 1 to 3 spatial axes; `padding` adds zeros; `same` (stride 1)
    keeps the size. `weight` is (*out_size, out_channels, C, *kernel), `bias` (out_channels, *out_size).
    Initialized like `torch.nn.Conv2d`. ShapeError where the kernel is larger than the padded map,
    and for inputs of another shape.
    Source: Taigman et al., "DeepFace", CVPR 2014; LeCun, "Generalization and network design strategies", 1989.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        in_size: Sequence[int],
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        axes = len(in_size)
        self.in_channels, self.out_channels, self.in_size = in_channels, out_channels, tuple(in_size)
        self.kernel_size = per_axis(kernel_size, axes, "kernel_size")
        self.stride = per_axis(stride, axes, "stride")
        self.pads = self._pads(padding, axes)
        sizes = zip(self.in_size, self.kernel_size, self.stride, self.pads, strict=True)
        along = [AxisWindows(size, kernel, stride, *pads) for size, kernel, stride, pads in sizes]
        self.out_size = tuple(windows.count for windows in along)
        if min(self.out_size) < 1:
            padded = tuple(windows.padded for windows in along)
            fitting = tuple(map(min, self.kernel_size, padded))
            got = f"{self.kernel_size} on a padded map of {padded}"
            raise ShapeError("kernel_size", got, f"at most {padded}", f"kernel_size={fitting}")
        self.weight = nn.Parameter(torch.empty(*self.out_size, out_channels, in_channels, *self.kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels, *self.out_size)) if bias else None
        bound = 1 / math.sqrt(self.fan_in)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    @property
    def fan_in(self) -> int:
        """How many inputs one output is computed from."""
        return self.in_channels * math.prod(self.kernel_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if tuple(x.shape[1:]) != (self.in_channels, *self.in_size):
            expected = f"(N, {', '.join(map(str, (self.in_channels, *self.in_size)))}), for which the weights were made"
            remedy = f"in_channels={self.in_channels} and in_size={self.in_size} are fixed: resize the input"
            raise ShapeError("input of LocallyConnected", f"shape {tuple(x.shape)}", expected, remedy)
        patches = functional.pad(x, [pad for pads in reversed(self.pads) for pad in pads])
        for axis, (kernel, stride) in enumerate(zip(self.kernel_size, self.stride, strict=True)):
            patches = patches.unfold(2 + axis, kernel, stride)
        axes, positions = len(self.in_size), math.prod(self.out_size)
        # (N, C, *out, *kernel) to one matrix product a position: (positions, N, C·kernel).
        order = (*range(2, 2 + axes), 0, 1, *range(2 + axes, 2 + 2 * axes))
        columns = patches.permute(order).reshape(positions, x.shape[0], self.fan_in)
        weights = self.weight.reshape(positions, self.out_channels, self.fan_in)
        out = torch.bmm(columns, weights.transpose(1, 2)).permute(1, 2, 0)
        # Of one sample a reshape alone would keep strides with which torch's batch normalization, in eval mode, gives
        # wrong gradients.
        out = out.reshape(x.shape[0], self.out_channels, *self.out_size).contiguous()
        return out if self.bias is None else out + self.bias.to(out.dtype)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, in_size={self.in_size}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.pads}, bias={self.bias is not None}"
        )

    def _pads(self, padding: Size | str, axes: int) -> tuple[tuple[int, int], ...]:
        if not isinstance(padding, str):
            return tuple((pad, pad) for pad in per_axis(padding, axes, "padding"))
        if padding != "same" or max(self.stride) > 1:
            got = f"{padding!r} with stride {self.stride}"
            raise UsageError("padding", got, "numbers, or 'same' with stride 1", "padding=0")
        return tuple(same_padding(k) for k in self.kernel_size)
