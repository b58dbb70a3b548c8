"""Maxout."""

from __future__ import annotations

import torch
from torch import nn


class Maxout(nn.Module):
    """The largest of every `pieces` consecutive channels or features: (N, C, …) to (N, C / pieces, …).

    A tie goes to one of them. ValueError where `pieces` does not divide C.
    Source: Goodfellow et al., "Maxout networks", ICML 2013.
    """

    def __init__(self, pieces: int) -> None:
        super().__init__()
        if pieces < 1:
            raise ValueError(f"pieces is {pieces}; it has to be at least 1")
        self.pieces = pieces

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        if channels % self.pieces:
            raise ValueError(f"{self.pieces} pieces do not divide {channels} channels")
        largest: torch.Tensor = x.unflatten(1, (channels // self.pieces, self.pieces)).max(dim=2).values
        return largest

    def extra_repr(self) -> str:
        return str(self.pieces)
