"""Pooling over neighboring channels, and its gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from striate.reference.arguments import Array, batch, gradient
from striate.reference.channel_windows import neighbors, over_channels


def channel_l2_pool(x: ArrayLike, size: int) -> Array:
    """y[n, c] = √Σ_j x[n, j]² over the `size` channels around c, c − size//2 … c + (size − 1)//2, cut at the ends.

    (N, C, …) to the same shape. UsageError where `size` is no whole number of at least 1.
    Source: Kavukcuoglu et al., "Learning invariant features through topographic filter maps", CVPR 2009.
    """
    x = batch(x)
    return np.sqrt(over_channels(neighbors(x.shape[1], size), np.square(x)))


def channel_l2_pool_backward(grad_out: ArrayLike, x: ArrayLike, size: int) -> Array:
    """grad_x[j] = x[j] · Σ_c grad_out[c] / y[c] over the windows that j is in; a window of zeros gives none."""
    x = batch(x)
    window = neighbors(x.shape[1], size)
    y = np.sqrt(over_channels(window, np.square(x)))
    return x * over_channels(window.T, np.where(y > 0, gradient(grad_out, y.shape) / np.where(y > 0, y, 1), 0))
