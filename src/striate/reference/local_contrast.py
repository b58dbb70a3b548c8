"""Local contrast normalization, and its gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import UsageError
from striate.reference.arguments import Array, gradient, maps, whole

_RELATIVE = float(np.sqrt(np.finfo(np.float64).eps))
_TINY = 1e-12


def local_contrast_norm(x: ArrayLike, size: int = 9) -> Array:
    """Subtractive, then divisive: v = x − A m, σ = √(A q), y = v / max(mean of σ over the sample, σ).

    m and q are the means of x and of v² over channels, A the mean over a Gaussian window of `size` (odd) positions an
    axis and standard deviation size/4, of which at the border the part inside counts. (N, C, *spatial) to the same
    shape. A constant map gives zeros. UsageError where `size` is even.
    Source: Jarrett et al., "What is the best multi-stage architecture for object recognition?", ICCV 2009.
    """
    x = maps(x)
    centered, spread, typical, least = _parts(x, size)
    y: Array = centered / np.maximum(np.maximum(spread, typical), least)
    return y


def local_contrast_norm_backward(grad_out: ArrayLike, x: ArrayLike, size: int = 9) -> Array:
    """grad_x: back through the quotient, the larger of the two divisors, the root, both means over windows."""
    x = maps(x)
    centered, spread, typical, least = _parts(x, size)
    g, positions = gradient(grad_out, x.shape), tuple(range(1, x.ndim))
    divisor = np.maximum(np.maximum(spread, typical), least)
    grad_divisor = -(g * centered).sum(axis=1, keepdims=True) / divisor**2
    local = (spread > typical) & (spread >= least)
    of_typical = np.where(~local & (typical >= least), grad_divisor, 0).sum(axis=positions, keepdims=True)
    grad_spread = np.where(local, grad_divisor, 0) + of_typical / np.prod(x.shape[2:])
    grad_squares = _blur_backward(np.where(spread > 0, grad_spread / (2 * np.where(spread > 0, spread, 1)), 0), size)
    grad_centered = g / divisor + 2 * centered * grad_squares / x.shape[1]
    grad: Array = grad_centered - _blur_backward(grad_centered.mean(axis=1, keepdims=True), size)
    return grad


def _parts(x: Array, size: int) -> tuple[Array, Array, Array, Array]:
    """v, σ, the mean of σ over the sample, and the least divisor: rounding errors must not be taken for contrast."""
    centered = x - _blur(x.mean(axis=1, keepdims=True), size)
    spread = np.sqrt(_blur(np.square(centered).mean(axis=1, keepdims=True), size))
    positions = tuple(range(1, x.ndim))
    least = np.maximum(_RELATIVE * np.abs(x).max(axis=positions, keepdims=True), _TINY)
    return centered, spread, spread.mean(axis=positions, keepdims=True), least


def _blur(x: Array, size: int) -> Array:
    """A: the weighted mean over the window, one axis after the other."""
    for axis in range(2, x.ndim):
        x = np.moveaxis(np.tensordot(_window_means(x.shape[axis], size), x, axes=(1, axis)), 0, axis)
    return x


def _blur_backward(grad: Array, size: int) -> Array:
    """Aᵀ."""
    for axis in range(2, grad.ndim):
        grad = np.moveaxis(np.tensordot(_window_means(grad.shape[axis], size).T, grad, axes=(1, axis)), 0, axis)
    return grad


def _window_means(length: int, size: int) -> Array:
    """One axis of A: row t holds the Gaussian around t, zero outside of the window, with sum 1."""
    size = whole(size, "size")
    if size % 2 == 0:
        raise UsageError("size", f"{size}", "an odd number, so that the window has a center", f"size={size + 1}")
    t, s = np.ogrid[:length, :length]
    gaussian = np.exp(-0.5 * ((s - t) / (size / 4)) ** 2) * (np.abs(s - t) <= size // 2)
    means: Array = gaussian / gaussian.sum(axis=1, keepdims=True)
    return means
