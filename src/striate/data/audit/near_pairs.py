"""Pairs of samples whose traits nearly agree."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1024


def near_pairs(traits: NDArray[np.float32], least: float, most: int) -> list[tuple[int, int]]:
    """Pairs of rows of (N, M) `traits`, the lower number first, whose correlation is `least` or more.

    Traits have length 1, or are 0 where a sample has nothing to compare; only the first `most` that are not 0 are
    compared."""
    known, pairs = np.flatnonzero(traits.any(1))[:most], []
    for start in range(0, len(known), _CHUNK):
        part = known[start : start + _CHUNK]
        rows, columns = np.nonzero(traits[part] @ traits[known].T >= least)
        pairs += [(a, b) for a, b in zip(part[rows].tolist(), known[columns].tolist(), strict=True) if a < b]
    return pairs
