"""Global average pooling."""

from __future__ import annotations

import torch
from torch import nn

from striate.layers.windows import check_map


class GlobalAveragePool(nn.Module):
    """The mean of every channel over all positions: (N, C, *spatial) to (N, C). ShapeError where there are none.

    Source: Lin et al., "Network in network", ICLR 2014.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_map("GlobalAveragePool", x)
        return x.mean(dim=tuple(range(2, x.dim())))
