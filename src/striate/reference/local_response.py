"""Local response normalization, and its gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from striate.reference.arguments import Array, batch, gradient, number
from striate.reference.channel_windows import neighbors, over_channels


def local_response_norm(x: ArrayLike, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Array:
    """y[n, c] = x[n, c] / (k + α/size · Σ_j x[n, j]²)^β over the `size` channels around c, as in torch.

    Channels c − size//2 … c + (size − 1)//2, cut at the ends; (N, C, …) to the same shape. The paper has α without
    `size` under it, and k = 2, size = 5, α = 10⁻⁴, β = 0.75: here α = 5·10⁻⁴.
    UsageError where k ≤ 0, α < 0. Source: Krizhevsky et al., "ImageNet classification with deep CNNs", NIPS 2012.
    """
    x = batch(x)
    inner, beta = _inner(x, size, alpha, k), number(beta, "beta")
    return x * inner**-beta


def local_response_norm_backward(
    grad_out: ArrayLike, x: ArrayLike, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Array:
    """grad_x: g · s^−β, minus 2αβ/size · x · Σ_c g[c] · x[c] · s[c]^(−β−1) over the windows that x is in."""
    x = batch(x)
    inner, beta, g = _inner(x, size, alpha, k), number(beta, "beta"), gradient(grad_out, x.shape)
    through = over_channels(neighbors(x.shape[1], size).T, g * x * inner ** (-beta - 1))
    return g * inner**-beta - 2 * alpha * beta / size * x * through


def _inner(x: Array, size: int, alpha: float, k: float) -> Array:
    """s = k + α/size · Σ x², which stays positive."""
    sums = over_channels(neighbors(x.shape[1], size), np.square(x))
    return number(k, "k", above=0) + number(alpha, "alpha", low=0) / size * sums
