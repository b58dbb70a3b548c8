"""Local contrast normalization."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from striate.layers.windows import root, wide

TINY = 1e-12


class LocalContrastNorm(nn.Module):
    """Subtractive, then divisive normalization by the neighborhood: (N, C, *spatial) to the same shape.

    With w a Gaussian window of `size` (odd) positions an axis and standard deviation size/4, Σ w = 1 over the window
    and all channels: v = x − Σ w x, σ = √(Σ w v²), y = v / max(mean of σ over the sample, σ). At the border the part
    of the window inside the map counts, scaled to sum 1. A constant map gives zeros: the
    divisor is at least √ε of the largest value of the sample (ε: resolution of the number format).
    Source: Jarrett et al., "What is the best multi-stage architecture for object recognition?", ICCV 2009.
    """

    window: torch.Tensor

    def __init__(self, size: int = 9) -> None:
        super().__init__()
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size is {size}; it has to be odd, so that the window has a center")
        self.size = size
        offsets = torch.arange(size, dtype=torch.float64) - size // 2
        weights = torch.exp(-0.5 * (offsets / (size / 4)).square())
        self.register_buffer("window", weights / weights.sum(), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = wide(x)
        inside = self._blur(torch.ones_like(values[:1, :1]))
        centered = values - self._blur(values.mean(1, keepdim=True)) / inside
        spread = root(self._blur(centered.square().mean(1, keepdim=True)) / inside)
        typical = spread.mean(dim=tuple(range(1, x.dim())), keepdim=True)
        # A constant map leaves rounding errors, which must not be blown up to contrast.
        largest = values.detach().abs().amax(dim=tuple(range(1, x.dim())), keepdim=True)
        least = (largest * math.sqrt(torch.finfo(values.dtype).eps)).clamp_min(TINY)
        return (centered / torch.maximum(torch.maximum(spread, typical), least)).to(x.dtype)

    def _blur(self, x: torch.Tensor) -> torch.Tensor:
        # Shifted sums instead of a convolution, which autocast would compute in half precision.
        half = self.size // 2
        for axis in range(2, x.dim()):
            length = x.shape[axis]
            reach = min(half, length - 1)
            pads = (0, 0) * (x.dim() - 1 - axis) + (reach, reach)
            padded = functional.pad(x, pads)
            weights = self.window.to(x.dtype)
            x = sum(
                (weights[half - reach + i] * padded.narrow(axis, i, length) for i in range(2 * reach + 1)),
                start=torch.zeros_like(x),
            )
        return x

    def extra_repr(self) -> str:
        return str(self.size)
