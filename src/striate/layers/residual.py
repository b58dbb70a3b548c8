"""A residual block around any layers."""

from __future__ import annotations

import torch
from torch import nn


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
