"""Normalization layers: group normalization of a single channel, and local contrast normalization."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from striate.errors import UsageError
from striate.layers.windows import check_map, root, wide


class OneChannelGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm(1, 1)`: (N, 1, …) to the same shape, each sample normalized over all its positions.

    torch 2.13 crashes in the backward pass if the channel axis has channels-last strides; here it gets those of a new
    tensor. Parameters and state_dict are those of `nn.GroupNorm`.
    Source: Wu and He, "Group normalization", ECCV 2018.
    """

    def __init__(self) -> None:
        super().__init__(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.contiguous().view(-1).view(x.shape))


TINY = 1e-12


class LocalContrastNorm(nn.Module):
    """Subtractive, then divisive normalization by the neighborhood: (N, C, *spatial) to the same shape.

    With w a Gaussian window of `size` (odd) positions an axis and standard deviation size/4, Σ w = 1 over the window
    and all channels: v = x − Σ w x, σ = √(Σ w v²), y = v / max(mean of σ over the sample, σ). At the border the part
    of the window inside the map counts, scaled to sum 1. A constant map gives zeros: the divisor is at least √ε of the
    largest value of the sample (ε: resolution of the number format).
    `parts` is `both`, `subtractive` (v) or `divisive` (x / max(mean of σ, σ), with σ of x itself).
    UsageError for other arguments, ShapeError for maps without positions.
    Source: Jarrett et al., "What is the best multi-stage architecture for object recognition?", ICCV 2009.
    """

    def __init__(self, size: int = 9, parts: Literal["both", "subtractive", "divisive"] = "both") -> None:
        super().__init__()
        if size < 1 or size % 2 == 0:
            expected = "an odd number of at least 1, so that the window has a center"
            raise UsageError("size", repr(size), expected, f"size={max(1, size + 1)}")
        if parts not in ("both", "subtractive", "divisive"):
            raise UsageError("parts", repr(parts), "both, subtractive or divisive", 'parts="both"')
        self.size = size
        self.parts = parts
        # Numbers instead of a buffer: on the meta device, or after to_empty, a buffer would have no values.
        weights = [math.exp(-0.5 * ((offset - size // 2) / (size / 4)) ** 2) for offset in range(size)]
        self.window = tuple(weight / math.fsum(weights) for weight in weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_map("LocalContrastNorm", x)
        values = wide(x)
        inside = self._blur(torch.ones_like(values[:1, :1]))
        v = values if self.parts == "divisive" else values - self._blur(values.mean(1, keepdim=True)) / inside
        if self.parts == "subtractive":
            return v.to(x.dtype)
        deviation = root(self._blur(v.square().mean(1, keepdim=True)) / inside)
        typical = deviation.mean(dim=tuple(range(1, x.dim())), keepdim=True)
        # The rounding errors of a constant map must not be amplified to contrast.
        largest = values.detach().abs().amax(dim=tuple(range(1, x.dim())), keepdim=True)
        least = (largest * math.sqrt(torch.finfo(values.dtype).eps)).clamp_min(TINY)
        return (v / torch.maximum(torch.maximum(deviation, typical), least)).to(x.dtype)

    def _blur(self, x: torch.Tensor) -> torch.Tensor:
        # Shifted sums instead of a convolution, which autocast would compute in half precision.
        half = self.size // 2
        for axis in range(2, x.dim()):
            length = x.shape[axis]
            reach = min(half, length - 1)
            pads = (0, 0) * (x.dim() - 1 - axis) + (reach, reach)
            padded = functional.pad(x, pads)
            x = sum(
                (self.window[half - reach + i] * padded.narrow(axis, i, length) for i in range(2 * reach + 1)),
                start=torch.zeros_like(x),
            )
        return x

    def extra_repr(self) -> str:
        return str(self.size) if self.parts == "both" else f"{self.size}, parts={self.parts!r}"
