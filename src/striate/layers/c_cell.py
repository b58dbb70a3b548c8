"""C-cells: the blurring of the Neocognitron, which makes small shifts and deformations not matter."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from striate.errors import UsageError
from striate.layers.cells import fading_window, full_precision
from striate.layers.windows import wide


class CCell(nn.Module):
    """A blurred and saturated copy of each plane of S-cells: (N, K, H, W) to (N, K, H', W'). Nothing in it is learned.

        u_C(n) = ψ[ (1 + Σ d(ν) u_S(n + ν)) / (1 + v_S(n)) − 1 ],  ψ[x] = x / (α + x) for x > 0, else 0

    v_S(n) is the mean of Σ d(ν) u_S(n + ν) over all planes: what every plane answers says nothing. d is fixed, falls
    from the center as `fading_window` and sums to 1; α is `alpha`, the sum at which a cell answers one half.
    `padding` adds zeros. UsageError for an `alpha` that is not positive.
    Source: Fukushima, "Neocognitron", Biological Cybernetics 36, 1980, section 2.
    """

    window: torch.Tensor

    def __init__(self, kernel_size: int, stride: int = 1, padding: int = 0, alpha: float = 0.5) -> None:
        super().__init__()
        if not alpha > 0:
            raise UsageError("alpha", repr(alpha), "a number above 0", "alpha=0.5")
        self.kernel_size, self.stride, self.padding, self.alpha = kernel_size, stride, padding, alpha
        self.register_buffer("window", fading_window(kernel_size, kernel_size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u = wide(x)
        # Planes apart, as samples of one channel: one window serves any number of them.
        planes = u.reshape(-1, 1, *u.shape[2:])
        with full_precision(x.device):
            sums = functional.conv2d(planes, self.window.to(u.dtype), stride=self.stride, padding=self.padding)
        sums = sums.reshape(*u.shape[:2], *sums.shape[2:])
        common = sums.mean(1, keepdim=True)
        contrast = functional.relu((sums - common) / (1 + common))  # (1 + s) / (1 + v) − 1
        return (contrast / (self.alpha + contrast)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}, alpha={self.alpha:g}"
