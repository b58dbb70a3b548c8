"""Radial basis function units with fixed centers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from striate.errors import UsageError
from striate.layers.windows import wide


class RadialBasis(nn.Module):
    """Minus the squared distance to each of K fixed codes: (N, F) to (N, K), all at most zero.

    y_k = −Σ_j (x_j − c_kj)², so that the largest output is the nearest code and outputs can be read as logits: their
    cross-entropy is the paper's criterion −y_label + log Σ_k e^(y_k), but for its constant for rubbish.
    `codes` (K, F) are part of how the layer is made, neither trained nor in the `state_dict`. Outputs have at
    least float32: in half precision a distance near 100 would be rounded to halves.
    Raises UsageError for codes of different lengths.
    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998, equations 7 and 9.
    """

    def __init__(self, codes: Sequence[Sequence[float]]) -> None:
        super().__init__()
        # Numbers instead of a buffer: on the meta device, or after to_empty, a buffer would have no values.
        self.codes = tuple(tuple(code) for code in codes)
        lengths = sorted({len(code) for code in self.codes})
        if len(lengths) != 1:
            got = f"rows of {' and '.join(map(str, lengths))} numbers" if lengths else "no rows"
            raise UsageError("codes", got, "rows of one length, as those of a matrix", "codes=[[1, -1], [-1, 1]]")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = wide(x)
        codes = torch.tensor(self.codes, dtype=values.dtype, device=values.device)
        return -(values[:, None] - codes).square().sum(2)

    def extra_repr(self) -> str:
        return f"{len(self.codes[0])}, {len(self.codes)}"
