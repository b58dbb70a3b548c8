"""Radial basis function units with fixed centers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from striate.layers.windows import wide


class RadialBasis(nn.Module):
    """Minus the squared distance to each of K fixed codes: (N, F) to (N, K), all at most zero.

    y_k = −Σ_j (x_j − c_kj)², so that the largest output is the nearest code and outputs can be read as logits: their
    cross-entropy is the paper's criterion −y_label + log Σ_k e^(y_k), but for its constant for rubbish.
    `codes` (K, F) is part of how the layer is made: it is neither trained nor in the `state_dict`. Outputs have at
    least float32: in half precision a distance near 100 would be rounded to halves.
    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998, equations 7 and 9.
    """

    codes: torch.Tensor

    def __init__(self, codes: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.register_buffer("codes", torch.tensor(codes, dtype=torch.get_default_dtype()), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -(wide(x)[:, None] - wide(self.codes)).square().sum(2)

    def extra_repr(self) -> str:
        return f"{self.codes.shape[1]}, {self.codes.shape[0]}"
