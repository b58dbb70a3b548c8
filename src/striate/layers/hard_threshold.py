"""The hard threshold of McCulloch and Pitts, Rosenblatt and Widrow."""

from __future__ import annotations

import torch
from torch import nn


def hard_threshold(x: torch.Tensor) -> torch.Tensor:
    """+1 where x ≥ 0, else −1. Its derivative is zero wherever it has one: nothing is learned through it by
    gradient."""
    # Of a comparison there would be no gradient at all; `sign` has one, of zeros, but is 0 at 0.
    return torch.sign(torch.sign(x) + 0.5)


class HardThreshold(nn.Module):
    """`hard_threshold` of every number: any shape to the same.

    Source: McCulloch and Pitts, "A logical calculus of the ideas immanent in nervous activity", 1943.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return hard_threshold(x)
