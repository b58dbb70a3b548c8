"""Pooling layers: L2 pooling over channels or spatial windows, global average pooling, and LeNet's subsampling."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from striate.layers.windows import Size, check_map, check_positive, per_axis, root, wide


class ChannelL2Pool(nn.Module):
    """Root of the sum of squares over `size` neighboring channels: (N, C, *spatial) to the same shape, also (N, F).

    The window of output channel c is c − size//2 … c + (size − 1)//2, cut at the first and the last channel, as in
    local response normalization. The number of channels does not change, and neighboring units learn related features.
    The gradient at an all-zero window is zero.
    Source: Kavukcuoglu et al., "Learning invariant features through topographic filter maps", CVPR 2009.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        check_positive("size", size)
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Positions beyond the channels add only zeros, so the window is cut: a huge one takes no memory.
        before = min(self.size // 2, x.shape[1] - 1)
        after = min((self.size - 1) // 2, x.shape[1] - 1)
        squares = functional.pad(wide(x).square(), (0, 0) * (x.dim() - 2) + (before, after))
        return root(squares.unfold(1, before + after + 1, 1).sum(-1)).to(x.dtype)

    def extra_repr(self) -> str:
        return str(self.size)


class L2Pool(nn.Module):
    """Root of the sum of squares of every window: (N, C, *spatial) to (N, C, *smaller), 1 to 3 spatial axes.

    `padding` adds zeros, at most half of `kernel_size`; `stride` is `kernel_size` by default. The gradient at an
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
            # Padded before, as avg_pool3d refuses a window larger than the map without its padding.
            squares = functional.pad(squares, [pad for pad in reversed(padding) for _ in range(2)])
        means = pool(squares, kernel, stride)
        return root(means * math.prod(kernel)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class GlobalAveragePool(nn.Module):
    """The mean of every channel over all positions: (N, C, *spatial) to (N, C). ShapeError for a map without positions.

    Source: Lin et al., "Network in network", ICLR 2014.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_map("GlobalAveragePool", x)
        return x.mean(dim=tuple(range(2, x.dim())))


class Subsampling(nn.Module):
    """Sum over every size×size window, times a coefficient, plus a bias: (N, C, H, W) to (N, C, H / size, W / size).

    Windows do not overlap; rows and columns beyond the last complete window are dropped. `weight` (C, 1, 1) is
    initialized with 1 / size², which computes the mean of the window, `bias` (C,) with zeros.
    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998, section II-B, where a
    squashing function follows.
    """

    def __init__(self, channels: int, size: int = 2) -> None:
        super().__init__()
        self.channels, self.size = channels, size
        self.weight = nn.Parameter(torch.full((channels, 1, 1), 1 / size**2))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sums = functional.avg_pool2d(x, self.size, divisor_override=1)
        return sums * self.weight + self.bias[:, None, None]

    def extra_repr(self) -> str:
        return f"{self.channels}, size={self.size}"
