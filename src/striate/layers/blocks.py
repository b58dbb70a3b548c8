"""Blocks around or between layers: residual connection, and squeeze-and-excitation."""

from __future__ import annotations

import torch
from torch import nn

from striate.layers.windows import check_map, check_positive


class Residual(nn.Module):
    """`body(x) + shortcut(x)`; without a shortcut, x itself is added.

    Source: He et al., "Deep residual learning for image recognition", CVPR 2016.
    """

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added = x if self.shortcut is None else self.shortcut(x)
        out: torch.Tensor = self.body(x) + added
        return out


class SqueezeExcitation(nn.Module):
    """Each channel times a factor between 0 and 1, computed from all channels: (N, C, *spatial) to the same shape.

    Squeeze: the mean of every channel over all positions. Excitation: factors = sigmoid(W₂ relu(W₁ means + b₁) + b₂),
    with C / `reduction` values (rounded down, at least 1) in between. For maps with one to three spatial axes; the two
    linear layers are 1×1 convolutions on a map of one position, `fc1` and `fc2`, as in timm.
    UsageError where `channels` or `reduction` is below 1, ShapeError where the input has no positions.
    Source: Hu, Shen and Sun, "Squeeze-and-excitation networks", CVPR 2018.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        check_positive("channels", channels)
        check_positive("reduction", reduction)
        squeezed = max(1, channels // reduction)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_map("SqueezeExcitation", x)
        means = x.mean(dim=tuple(range(2, x.dim())))
        factors = self.sigmoid(self.fc2(self.relu(self.fc1(means[..., None, None]))))
        out: torch.Tensor = x * factors.reshape(*x.shape[:2], *[1] * (x.dim() - 2))
        return out
