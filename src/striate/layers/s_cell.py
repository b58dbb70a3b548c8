"""S-cells: the feature detectors of the Neocognitron."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from striate.errors import UsageError
from striate.layers.cells import fading_window, full_precision
from striate.layers.windows import Size, per_axis, root, wide

FIRST = 1e-3
"""What the excitatory connections of a plane add up to at most before it has learned."""


class SCell(nn.Module):
    """Planes of S-cells, which answer to a pattern and to little else: (N, C, H, W) to (N, out_channels, H', W').

    With a the excitatory connections `weight` (out_channels, C, h, w), b the inhibitory ones `inhibition`
    (out_channels, 1, 1), r the `selectivity`, and the V-cell's v(n) = √(Σ c(ν) u²(n + ν)):

        u_S(n) = r · φ[ (1 + Σ a(ν) u(n + ν)) / (1 + r/(1 + r) · b · v(n)) − 1 ],  φ[x] = max(x, 0)

    Inputs, a and b are not negative. c is fixed, falls from the center as `fading_window`, and sums to 1 over window
    and channels. After a = q c x, b = q √(Σ c x²) of one pattern x with large q, a cell answers where its input has a
    cosine above r / (1 + r) with x, and its largest answer is 1. First weights: small and positive, so that every plane
    answers a little to anything; b = 0. Computed in float32 at least, also under autocast: near the threshold it is a
    difference of nearly equal numbers. `padding` adds zeros. UsageError for a selectivity that is not positive.
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
        return self.answers(x, self.selectivity)

    def answers(self, x: torch.Tensor, selectivity: float) -> torch.Tensor:
        """The outputs that another selectivity would give."""
        u = wide(x)
        with full_precision(x.device):
            excitation = functional.conv2d(u, self.weight.to(u.dtype), padding=self.padding)
            inhibition = self.inhibition.to(u.dtype) * self.v_cells(u)
        threshold = selectivity / (1 + selectivity)
        # (1 + e) / (1 + h) − 1 = (e − h) / (1 + h), without the difference of nearly equal numbers.
        surplus = (excitation - threshold * inhibition) / (1 + threshold * inhibition)
        return (selectivity * functional.relu(surplus)).to(x.dtype)

    def v_cells(self, x: torch.Tensor) -> torch.Tensor:
        """What the V-cells say, (N, 1, H', W'): the weighted root mean square of the input in each window."""
        return root(functional.conv2d(x.square(), self.window.to(x.dtype), padding=self.padding))

    def extra_repr(self) -> str:
        sizes = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        return f"{sizes}, selectivity={self.selectivity:g}, padding={self.padding}"
