"""Pooling over spatial windows (maximum, average, L2) and L2 pooling over channels, each with its gradient."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from striate.reference.arguments import Array, Size, batch, gradient, maps
from striate.reference.windows import Windows, neighbors, over_channels, pad, pad_backward, pool_windows


def max_pool(x: ArrayLike, size: Size, stride: Size | None = None, padding: Size = 0) -> Array:
    """The largest of every window: (N, C, *spatial) → (N, C, *out), 1 to 3 spatial axes.

    `stride` is `size` by default; `padding`, at most half of `size`, is never the maximum. Positions that no window
    covers are dropped: out = ⌊(n + 2·padding − size) / stride⌋ + 1. UsageError, ShapeError where sizes do not fit.
    """
    x = maps(x)
    y: Array = _stack(x, pool_windows(x.shape[2:], size, stride, padding), -np.inf).max(axis=0)
    return y


def max_pool_backward(
    grad_out: ArrayLike, x: ArrayLike, size: Size, stride: Size | None = None, padding: Size = 0
) -> Array:
    """grad_x: each output's gradient goes to the largest input of its window; in a tie, to the first."""
    x = maps(x)
    seen = pool_windows(x.shape[2:], size, stride, padding)
    winner = _stack(x, seen, -np.inf).argmax(axis=0)
    g = gradient(grad_out, winner.shape)
    return _unstack(x, seen, [np.where(winner == i, g, 0) for i in range(math.prod(seen.kernel))])


def average_pool(
    x: ArrayLike, size: Size, stride: Size | None = None, padding: Size = 0, *, count_include_pad: bool = True
) -> Array:
    """The mean of every window, sizes as `max_pool`; `count_include_pad` says whether padding counts, as zeros."""
    x = maps(x)
    seen = pool_windows(x.shape[2:], size, stride, padding)
    y: Array = _stack(x, seen).sum(axis=0) / _counts(x, seen, count_include_pad)
    return y


def average_pool_backward(
    grad_out: ArrayLike,
    x: ArrayLike,
    size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    *,
    count_include_pad: bool = True,
) -> Array:
    """grad_x: each output's gradient, divided evenly over its window."""
    x = maps(x)
    seen = pool_windows(x.shape[2:], size, stride, padding)
    share = gradient(grad_out, (*x.shape[:2], *seen.out)) / _counts(x, seen, count_include_pad)
    return _unstack(x, seen, [share] * math.prod(seen.kernel))


def l2_pool(x: ArrayLike, size: Size, stride: Size | None = None, padding: Size = 0) -> Array:
    """The root of the sum of squares of every window, sizes as `max_pool`.

    Source: Hyvärinen and Köster, "Complex cell pooling and the statistics of natural images", 2007.
    """
    x = maps(x)
    y: Array = np.sqrt(np.square(_stack(x, pool_windows(x.shape[2:], size, stride, padding))).sum(axis=0))
    return y


def l2_pool_backward(
    grad_out: ArrayLike, x: ArrayLike, size: Size, stride: Size | None = None, padding: Size = 0
) -> Array:
    """grad_x: each output's gradient times x / y; zero for a window of zeros, where the root has no slope."""
    x = maps(x)
    seen = pool_windows(x.shape[2:], size, stride, padding)
    inputs = _stack(x, seen)
    y = np.sqrt(np.square(inputs).sum(axis=0))
    return _unstack(x, seen, gradient(grad_out, y.shape) * inputs / np.where(y > 0, y, 1))


def _stack(x: Array, seen: Windows, value: float = 0) -> Array:
    """The values in each window: (positions in the window, N, C, *out)."""
    padded = pad(x, seen.pads, value=value)
    return np.stack([padded[met] for _, met in seen.taps()])


def _unstack(x: Array, seen: Windows, parts: Array | list[Array]) -> Array:
    """The adjoint of `_stack`: each value is added at the position that it comes from."""
    grad = np.zeros_like(pad(x, seen.pads))
    for (_, met), part in zip(seen.taps(), parts, strict=True):
        grad[met] += part
    return pad_backward(grad, seen.pads)


def _counts(x: Array, seen: Windows, count_include_pad: bool) -> Array:
    if count_include_pad:
        return np.asarray(float(math.prod(seen.kernel)))
    counts: Array = _stack(np.ones((1, 1, *x.shape[2:])), seen).sum(axis=0)
    return counts


def channel_l2_pool(x: ArrayLike, size: int) -> Array:
    """y[n, c] = √Σ_j x[n, j]² over the `size` channels around c, c − size//2 … c + (size − 1)//2, cut at the ends.

    (N, C, …) to the same shape. UsageError unless `size` is a whole number of at least 1.
    Source: Kavukcuoglu et al., "Learning invariant features through topographic filter maps", CVPR 2009.
    """
    x = batch(x)
    return np.sqrt(over_channels(neighbors(x.shape[1], size), np.square(x)))


def channel_l2_pool_backward(grad_out: ArrayLike, x: ArrayLike, size: int) -> Array:
    """grad_x[j] = x[j] · Σ_c grad_out[c] / y[c] over the windows that contain j; a window of zeros adds nothing."""
    x = batch(x)
    window = neighbors(x.shape[1], size)
    y = np.sqrt(over_channels(window, np.square(x)))
    return x * over_channels(window.T, np.where(y > 0, gradient(grad_out, y.shape) / np.where(y > 0, y, 1), 0))
