"""Global average pooling."""

from __future__ import annotations

import torch
from torch import nn


class GlobalAveragePool(nn.Module):
    """The mean of every channel over all positions: (N, C, *spatial) to (N, C). ValueError where there are none.

    Source: Lin et al., "Network in network", ICLR 2014.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() < 3 or 0 in x.shape[2:]:
            raise ValueError(
                f"an input of shape {tuple(x.shape)}; it has to be (N, C, *spatial), no axis of a map empty"
            )
        return x.mean(dim=tuple(range(2, x.dim())))
