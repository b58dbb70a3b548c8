"""Global average pooling."""

from __future__ import annotations

import torch
from torch import nn


class GlobalAveragePool(nn.Module):
    """The mean of every channel over all positions: (N, C, *spatial) to (N, C).

    Source: Lin et al., "Network in network", ICLR 2014.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=tuple(range(2, x.dim())))
