"""Arrays of numbers that are images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_pixels(x: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Bytes from integers 0 to 255, or from floats that are exactly k/255; None for other arrays."""
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind == "b":
        return x.astype(np.uint8) * np.uint8(255)
    low, high = x.min(), x.max()
    if x.dtype.kind in "iu":
        return x.astype(np.uint8) if low >= 0 and high <= 255 else None
    if not (low >= 0 and high <= 1):  # false also for NaN
        return None
    levels = np.rint(x * 255)
    return levels.astype(np.uint8) if np.array_equal(levels / x.dtype.type(255), x) else None
