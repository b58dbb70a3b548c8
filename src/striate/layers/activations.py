"""Activations: the hard threshold of McCulloch and Pitts, maxout, and the squashing function of LeNet-5."""

from __future__ import annotations

import torch
from torch import nn

from striate.errors import ShapeError
from striate.layers.windows import check_positive
from striate.wording import several


def hard_threshold(x: torch.Tensor) -> torch.Tensor:
    """+1 where x ≥ 0, else −1. Its derivative is zero wherever it exists, so no gradient passes."""
    # A comparison would have no gradient at all. `sign` has a gradient of zeros, but is 0 at 0.
    return torch.sign(torch.sign(x) + 0.5)


class HardThreshold(nn.Module):
    """`hard_threshold` of every number: any shape to the same shape.

    Source: McCulloch and Pitts, "A logical calculus of the ideas immanent in nervous activity", 1943.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return hard_threshold(x)


class Maxout(nn.Module):
    """The largest of every `pieces` consecutive channels or features: (N, C, …) to (N, C / pieces, …).

    In a tie, one of the pieces gets the gradient. Raises ShapeError where `pieces` does not divide C.
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
            raise ShapeError("input of Maxout", several(channels, "channel"), expected, f"pieces={fitting}")
        largest: torch.Tensor = x.unflatten(1, (channels // self.pieces, self.pieces)).max(dim=2).values
        return largest

    def extra_repr(self) -> str:
        return str(self.pieces)


AMPLITUDE, SLOPE = 1.7159, 2 / 3


class ScaledTanh(nn.Module):
    """1.7159 · tanh(2x / 3), of any shape: 1 at 1 and −1 at −1, where its second derivative is largest.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998, appendix A.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return AMPLITUDE * torch.tanh(SLOPE * x)
