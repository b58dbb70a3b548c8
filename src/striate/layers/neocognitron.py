"""The cells of the Neocognitron: S-cells detect features, C-cells blur them so that small shifts and deformations do
not matter, and contrast cells respond where the image is brighter or darker than around."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn import functional

from striate.errors import UsageError
from striate.layers.windows import Size, check_positive, per_axis, root, wide

FADE = 0.5
"""The strength of a connection from half a window away, relative to that from the center."""


def fading_window(height: int, width: int) -> torch.Tensor:
    """A window (1, 1, height, width), float32, of sum 1, that decreases from the center as 0.5^d; d is the distance in
    half windows.

    Raises UsageError for a size below 1.
    """
    check_positive("kernel_size", (height, width))
    rows, columns = ((torch.arange(n, dtype=torch.float32) - (n - 1) / 2) / (n / 2) for n in (height, width))
    strength = FADE ** (rows.square()[:, None] + columns.square()).sqrt()
    return (strength / strength.sum()).view(1, 1, height, width)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """While the body runs, autocast is off: convolutions and matrix products have the data type of their input."""
    # Autocast does not support the meta device, not even the question whether it is on.
    if device.type != "meta" and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


class CCell(nn.Module):
    """A blurred and saturated copy of each plane of S-cells: (N, K, H, W) to (N, K, H', W'). Nothing in it is learned.

        u_C(n) = ψ[ (1 + Σ d(ν) u_S(n + ν)) / (1 + v_S(n)) − 1 ],  ψ[x] = x / (α + x) for x > 0, else 0

    v_S(n) is the mean of Σ d(ν) u_S(n + ν) over all planes: a pattern that every plane responds to is suppressed. d is
    the fixed `fading_window`; α is `alpha`, the sum at which a cell outputs one half. `padding` adds zeros. Raises
    UsageError for an `alpha` that is not positive.
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
        # Planes become samples of one channel, so that one window serves any number of planes.
        planes = u.reshape(-1, 1, *u.shape[2:])
        with full_precision(x.device):
            sums = functional.conv2d(planes, self.window.to(u.dtype), stride=self.stride, padding=self.padding)
        sums = sums.reshape(*u.shape[:2], *sums.shape[2:])
        common = sums.mean(1, keepdim=True)
        contrast = functional.relu((sums - common) / (1 + common))  # (1 + s) / (1 + v) − 1
        return (contrast / (self.alpha + contrast)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}, alpha={self.alpha:g}"


FIRST = 1e-3
"""Largest sum of the excitatory connections of a plane before it has learned."""


class SCell(nn.Module):
    """Planes of S-cells, which respond to a pattern and to little else: (N, C, H, W) to (N, out_channels, H', W').

    With a the excitatory connections `weight` (out_channels, C, h, w), b the inhibitory ones `inhibition`
    (out_channels, 1, 1), r the `selectivity`, and the V-cell's v(n) = √(Σ c(ν) u²(n + ν)):

        u_S(n) = r · φ[ (1 + Σ a(ν) u(n + ν)) / (1 + r/(1 + r) · b · v(n)) − 1 ],  φ[x] = max(x, 0)

    Inputs, a and b are not negative. c is fixed, falls from the center as `fading_window`, and sums to 1 over window
    and channels. After a = q c x, b = q √(Σ c x²) of one pattern x with large q, a cell responds where its input has a
    cosine above r / (1 + r) with x, and its largest response is 1. Initial weights are small and positive, so that
    every plane responds a little to anything; b = 0. Computed in float32 at least, also under autocast: near the
    threshold it is a difference of nearly equal numbers. `padding` adds zeros.
    UsageError for a selectivity that is not positive.
    Source: Fukushima, "Neocognitron", Biological Cybernetics 36, 1980, section 2.
    """

    window: torch.Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Size, selectivity: float = 1.5, padding: int = 0
    ) -> None:
        super().__init__()
        if not selectivity > 0:
            raise UsageError("selectivity", repr(selectivity), "a number above 0", "selectivity=1.5")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = per_axis(kernel_size, 2, "kernel_size")
        self.selectivity, self.padding = selectivity, padding
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *self.kernel_size))
        self.inhibition = nn.Parameter(torch.zeros(out_channels, 1, 1))
        window = fading_window(*self.kernel_size).expand(1, in_channels, -1, -1)
        self.register_buffer("window", window / in_channels)
        nn.init.uniform_(self.weight, 0.0, FIRST / self.weight[0].numel())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.responses(x, self.selectivity)

    def responses(self, x: torch.Tensor, selectivity: float) -> torch.Tensor:
        """The outputs (N, K, H', W') with another selectivity."""
        u = wide(x)
        with full_precision(x.device):
            excitation = functional.conv2d(u, self.weight.to(u.dtype), padding=self.padding)
            inhibition = self.inhibition.to(u.dtype) * self.v_cells(u)
        threshold = selectivity / (1 + selectivity)
        # (1 + e) / (1 + h) − 1 = (e − h) / (1 + h), without the difference of nearly equal numbers.
        surplus = (excitation - threshold * inhibition) / (1 + threshold * inhibition)
        return (selectivity * functional.relu(surplus)).to(x.dtype)

    def v_cells(self, x: torch.Tensor) -> torch.Tensor:
        """The outputs of the V-cells, (N, 1, H', W'): the weighted root mean square of the input in each window."""
        return root(functional.conv2d(x.square(), self.window.to(x.dtype), padding=self.padding))

    def extra_repr(self) -> str:
        sizes = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        return f"{sizes}, selectivity={self.selectivity:g}, padding={self.padding}"


class ContrastCells(nn.Module):
    """On-center and off-center cells, as in the retina: (N, C, H, W) to (N, 2 C, H, W), not negative.

    φ[± Σ w(ν) u(n + ν)] with w the difference of two Gaussians (standard deviations 1 and 2 pixels, 7×7) whose sum is 0
    and whose positive part sums to 1. So the mean of the input does not matter, and inputs may be standardized. The
    border is replicated, as a frame of zeros would be an edge. All on-center planes come first, then all off-center
    ones.
    Source: layer U_G of Fukushima, "Neocognitron for handwritten digit recognition", Neurocomputing 51, 2003.
    """

    window: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        offsets = torch.arange(7, dtype=torch.float32) - 3
        squares = offsets.square()[:, None] + offsets.square()
        center, surround = (torch.exp(-squares / (2 * std**2)) for std in (1.0, 2.0))
        window = center / center.sum() - surround / surround.sum()
        self.register_buffer("window", (window / window.clamp(min=0).sum()).view(1, 1, 7, 7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u = wide(x)
        planes = functional.pad(u.reshape(-1, 1, *u.shape[2:]), (3, 3, 3, 3), mode="replicate")
        with full_precision(x.device):
            contrast = functional.conv2d(planes, self.window.to(u.dtype)).reshape(u.shape)
        return torch.cat([functional.relu(contrast), functional.relu(-contrast)], 1).to(x.dtype)
