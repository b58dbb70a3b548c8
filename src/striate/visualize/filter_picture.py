"""A kernel laid on every pixel of a picture, in whole numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve

from striate.errors import UsageError
from striate.layers.axis_windows import PADDING_MODES, furthest_reach
from striate.layers.kernels import Kernel
from striate.records import option_remedy
from striate.visualize.picture import Bytes, Picture

NUMPY_MODES: dict[str, Any] = {"replicate": "edge", "zeros": "constant", "reflect": "reflect", "circular": "wrap"}
"""What NumPy calls the padding modes."""

_BAND = 1 << 18  # values that are summed at once: they stay in the cache
_MANY_WEIGHTS = 300  # from here on Fourier transforms are faster than one sum a weight


def filter_picture(picture: Picture, kernel: Kernel, padding_mode: str = "replicate") -> Picture:
    """The picture with every channel filtered by itself; the size stays, and alpha is left as it is."""
    channels = [filter_values(channel, kernel, padding_mode) for channel in np.moveaxis(picture.values, -1, 0)]
    notes = picture.notes if picture.alpha is None else (*picture.notes, "transparency is kept as it is, not filtered")
    return replace(picture, values=np.stack(channels, axis=-1), notes=notes)


def filter_values(x: Bytes, kernel: Kernel, padding_mode: str = "replicate") -> Bytes:
    """y[i, j] = Σ x[i + a, j + b] · weights[a, b] / divisor, over offsets a, b around the center; (H, W) uint8 to same.

    The cross-correlation of `striate.reference.convolve`. Sums are exact, quotients rounded to nearest, halves up, and
    results limited to 0 to 255. UsageError where `padding_mode` needs a larger picture.
    """
    check_padding(x.shape[1], x.shape[0], kernel, padding_mode)
    above, left = kernel.center
    padded = np.pad(x, ((above, above), (left, left)), mode=NUMPY_MODES[padding_mode])
    y = np.empty_like(x)
    summed = _sums_by_fourier if _count(kernel) > _MANY_WEIGHTS else _sums
    high = max(4 * kernel.shape[0], _BAND // x.shape[1], 1)
    for top in range(0, len(x), high):
        rows = min(high, len(x) - top)
        y[top : top + rows] = divide(summed(padded[top : top + rows + 2 * above], kernel), kernel.divisor)
    return y


def divide(sums: NDArray[Any], divisor: int) -> Bytes:
    """Whole sums over a positive divisor, to the nearest whole number (halves up), limited to 0 to 255."""
    if divisor > 1:
        sums = (2 * sums + divisor) // (2 * divisor)
    limited: Bytes = np.clip(sums, 0, 255).astype(np.uint8)
    return limited


def check_padding(width: int, height: int, kernel: Kernel, padding_mode: str) -> None:
    """Raise UsageError where the padding mode is unknown, or the picture is too small for it."""
    if padding_mode not in PADDING_MODES:
        raise UsageError(
            "--padding-mode", padding_mode, " or ".join(PADDING_MODES), option_remedy("padding-mode", "replicate")
        )
    above, left = kernel.center
    most = furthest_reach(padding_mode, height), furthest_reach(padding_mode, width)
    if all(limit is None or far <= limit for far, limit in zip(kernel.center, most, strict=True)):
        return
    rows, columns = kernel.shape
    why = "there is nothing further to mirror" if padding_mode == "reflect" else "it would go around more than once"
    raise UsageError(
        f"--padding-mode {padding_mode}",
        f"a kernel of {rows} × {columns} (rows × columns), which reaches {above} rows and {left} columns beyond a "
        f"picture of {height} × {width}",
        f"a reach of at most {most[0]} rows and {most[1]} columns: {why}",
        option_remedy("padding-mode", "replicate"),
    )


def _count(kernel: Kernel) -> int:
    return sum(weight != 0 for row in kernel.weights for weight in row)


def _sums(padded: Bytes, kernel: Kernel) -> NDArray[Any]:
    """The sums of products over a padded band, one shifted copy of it for each weight."""
    rows, columns = kernel.shape
    high, wide = len(padded) - rows + 1, padded.shape[1] - columns + 1
    # Twice a sum and a divisor have to fit; half as many bytes are twice as fast.
    kind = np.int32 if 2 * 255 * kernel.reach + kernel.divisor < 2**31 else np.int64
    wider, total, product = padded.astype(kind), np.zeros((high, wide), kind), np.empty((high, wide), kind)
    for a, row in enumerate(kernel.weights):
        for b, weight in enumerate(row):
            if weight:
                np.multiply(wider[a : a + high, b : b + wide], kind(weight), out=product)
                total += product
    return total


def _sums_by_fourier(padded: Bytes, kernel: Kernel) -> NDArray[Any]:
    """The same by Fourier transforms, where their rounding errors are far too small to reach another whole number."""
    weights = np.array(kernel.weights, np.float64)
    # ε · log₂(length) · ‖x‖ · ‖w‖ bounds the error of a transform there and back, for any constant of moderate size.
    bound = 2**-52 * 16 * 255 * np.sqrt(padded.size) * np.linalg.norm(weights) * 32
    if bound > 0.1:
        return _sums(padded, kernel)
    sums = oaconvolve(padded.astype(np.float64), weights[::-1, ::-1], mode="valid")
    return np.rint(sums).astype(np.int64)
