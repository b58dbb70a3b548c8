"""Windows over neighboring channels."""

from __future__ import annotations

import numpy as np

from striate.reference.arguments import Array, whole


def neighbors(channels: int, size: int) -> Array:
    """Who is summed for whom: B (channels, channels), B[c, j] = 1 for j from c − size//2 to c + (size − 1)//2."""
    size = whole(size, "size")
    c, j = np.ogrid[:channels, :channels]
    return ((j >= c - size // 2) & (j <= c + (size - 1) // 2)).astype(np.float64)


def over_channels(matrix: Array, x: Array) -> Array:
    """y[n, c, …] = Σ_j matrix[c, j] · x[n, j, …]."""
    y: Array = np.einsum("cj,nj...->nc...", matrix, x)
    return y
