"""Subsampling with a trainable coefficient and bias for each map."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Subsampling(nn.Module):
    """Sum over every size×size window, times a coefficient, plus a bias: (N, C, H, W) to (N, C, H / size, W / size).

    Windows do not overlap; rows and columns beyond the last whole window are dropped. `weight` (C, 1, 1) begins as
    1 / size², which is the mean of the window; `bias` (C,) begins as zeros.
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
