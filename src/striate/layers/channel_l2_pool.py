"""L2 pooling over neighboring channels."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from striate.layers.windows import check_positive, root, wide


class ChannelL2Pool(nn.Module):
    """Root of the sum of squares over `size` neighboring channels: (N, C, *spatial) to the same shape, also (N, F).

    The window of output channel c is c − size//2 … c + (size − 1)//2, cut at the first and the last channel, as in
    local response normalization; so there are as many channels as before, and units of one neighborhood learn
    related features. The gradient at an all-zero window is zero.
    Source: Kavukcuoglu et al., "Learning invariant features through topographic filter maps", CVPR 2009.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        check_positive("size", size)
        self.size = size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Beyond the channels that exist there are only zeros: a huge window costs no memory.
        before = min(self.size // 2, x.shape[1] - 1)
        after = min((self.size - 1) // 2, x.shape[1] - 1)
        squares = functional.pad(wide(x).square(), (0, 0) * (x.dim() - 2) + (before, after))
        return root(squares.unfold(1, before + after + 1, 1).sum(-1)).to(x.dtype)

    def extra_repr(self) -> str:
        return str(self.size)
