"""L2 pooling over spatial windows."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from striate.layers.windows import Size, per_axis, root, wide


class L2Pool(nn.Module):
    """Root of the sum of squares of every window: (N, C, *spatial) to (N, C, *smaller), 1 to 3 spatial axes.

    `padding` adds zeros, at most half of `kernel_size`; `stride` is `kernel_size` unless given. The gradient at an
    all-zero window is zero. Sizes follow `torch.nn.MaxPool2d` with `ceil_mode=False`.
    Source: Hyvärinen and Köster, "Complex cell pooling and the statistics of natural images", 2007.
    """

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        axes = x.dim() - 2
        pool = (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)[axes - 1]
        kernel = per_axis(self.kernel_size, axes, "kernel_size")
        stride = per_axis(self.stride, axes, "stride")
        padding = per_axis(self.padding, axes, "padding")
        squares = wide(x).square()
        if max(padding) > 0:
            # Apart from the pooling: avg_pool3d refuses a window larger than the map without its padding.
            squares = functional.pad(squares, [pad for pad in reversed(padding) for _ in range(2)])
        means = pool(squares, kernel, stride)
        return root(means * math.prod(kernel)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"
