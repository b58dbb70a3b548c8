"""Group normalization of maps of one channel."""

from __future__ import annotations

import torch
from torch import nn


class OneChannelGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm(1, 1)`: (N, 1, …) to the same shape, each sample normalized over all its positions.

    torch 2.13 crashes in its backward pass where the one channel has the strides of channels last; here the axis gets
    those of a fresh tensor. Parameters and state_dict are those of `nn.GroupNorm`.
    Source: Wu and He, "Group normalization", ECCV 2018.
    """

    def __init__(self) -> None:
        super().__init__(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.contiguous().view(-1).view(x.shape))
