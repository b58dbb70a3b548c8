"""Maxout."""

from __future__ import annotations

import torch
from torch import nn

from striate.errors import ShapeError
from striate.layers.windows import check_positive


class Maxout(nn.Module):
    """The largest of every `pieces` consecutive channels or features: (N, C, …) to (N, C / pieces, …).

    A tie goes to one of them. ShapeError where `pieces` does not divide C.
    Source: Goodfellow et al., "Maxout networks", ICML 2013.
    """

    def __init__(self, pieces: int) -> None:
        super().__init__()
        check_positive("pieces", pieces)
        self.pieces = pieces

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        if channels % self.pieces:
            fitting = max(d for d in range(1, min(self.pieces, channels) + 1) if channels % d == 0)
            expected = f"a multiple of {self.pieces}, the number of pieces"
            raise ShapeError("input of Maxout", f"{channels} channels", expected, f"pieces={fitting}")
        largest: torch.Tensor = x.unflatten(1, (channels // self.pieces, self.pieces)).max(dim=2).values
        return largest

    def extra_repr(self) -> str:
        return str(self.pieces)
