"""The squashing function of LeNet-5."""

from __future__ import annotations

import torch
from torch import nn

AMPLITUDE, SLOPE = 1.7159, 2 / 3


class ScaledTanh(nn.Module):
    """1.7159 · tanh(2x / 3), of any shape: 1 at 1 and −1 at −1, where its second derivative is largest.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998, appendix A.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return AMPLITUDE * torch.tanh(SLOPE * x)
