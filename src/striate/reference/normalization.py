"""Normalization, each with its gradient: batch, layer, group, local response and local contrast.

Batch, layer and group normalization differ in the axes of mean and variance: x̂ = (x − mean) / √(variance + eps),
y = weight · x̂ + bias. By default, weight is 1 and bias 0.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import ShapeError, UsageError
from striate.reference.arguments import Array, batch, exact, gradient, maps, number, per_axis, whole
from striate.reference.convolve import check_groups
from striate.reference.windows import neighbors, over_channels

Axes = tuple[int, ...]


def batch_norm(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    mean: ArrayLike | None = None,
    variance: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Array:
    """Normalize each channel by its mean and variance over all samples and positions: (N, C, …) to the same shape.

    weight, bias: (C). `mean` and `variance` (C) are used instead if they are given, as in eval mode.
    ShapeError where a channel has one value only. Source: Ioffe and Szegedy, "Batch normalization", ICML 2015.
    """
    x = batch(x)
    scaled, _ = _batch_standardize(x, mean, variance, eps)
    return scaled * _affine(weight, "weight", x, 1) + _affine(bias, "bias", x, 0)


def batch_norm_backward(
    grad_out: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    mean: ArrayLike | None = None,
    variance: ArrayLike | None = None,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """(grad_x, grad_weight, grad_bias); mean and variance of the batch depend on x, given ones are constants."""
    x = batch(x)
    g, axes = gradient(grad_out, x.shape), _all_but_channels(x)
    scaled, deviation = _batch_standardize(x, mean, variance, eps)
    inner = g * _affine(weight, "weight", x, 1)
    grad_x = inner / deviation if mean is not None else _standardize_backward(inner, scaled, deviation, axes)
    return grad_x, (g * scaled).sum(axis=axes), g.sum(axis=axes)


def layer_norm(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    normalized_shape: int | tuple[int, ...] | None = None,
    eps: float = 1e-5,
) -> Array:
    """Normalize each sample by its mean and variance over all axes but the first, or over the last ones of
    `normalized_shape`.

    weight, bias: of the shape of these axes. Source: Ba et al., "Layer normalization", 2016.
    """
    x = batch(x)
    axes, shape = _last(x, normalized_shape)
    scaled, _ = _standardize(x, axes, eps)
    y = scaled if weight is None else scaled * exact(weight, "weight", shape)
    return y if bias is None else y + exact(bias, "bias", shape)


def layer_norm_backward(
    grad_out: ArrayLike,
    x: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    normalized_shape: int | tuple[int, ...] | None = None,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """(grad_x, grad_weight, grad_bias)."""
    x = batch(x)
    g, (axes, shape) = gradient(grad_out, x.shape), _last(x, normalized_shape)
    scaled, deviation = _standardize(x, axes, eps)
    inner = g if weight is None else g * exact(weight, "weight", shape)
    before = tuple(range(x.ndim - len(shape)))
    return _standardize_backward(inner, scaled, deviation, axes), (g * scaled).sum(axis=before), g.sum(axis=before)


def group_norm(
    x: ArrayLike, groups: int, weight: ArrayLike | None = None, bias: ArrayLike | None = None, *, eps: float = 1e-5
) -> Array:
    """Normalize each of `groups` groups of neighboring channels by its mean and variance in the sample.

    (N, C, …) to the same shape; weight, bias: (C). ShapeError where `groups` does not divide C.
    Source: Wu and He, "Group normalization", ECCV 2018.
    """
    x = batch(x)
    scaled, _ = _standardize(_grouped(x, groups), (2,), eps)
    return scaled.reshape(x.shape) * _affine(weight, "weight", x, 1) + _affine(bias, "bias", x, 0)


def group_norm_backward(
    grad_out: ArrayLike, x: ArrayLike, groups: int, weight: ArrayLike | None = None, *, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """(grad_x, grad_weight, grad_bias)."""
    x = batch(x)
    g, axes = gradient(grad_out, x.shape), _all_but_channels(x)
    scaled, deviation = _standardize(_grouped(x, groups), (2,), eps)
    inner = _grouped(g * _affine(weight, "weight", x, 1), groups)
    grad_x = _standardize_backward(inner, scaled, deviation, (2,)).reshape(x.shape)
    return grad_x, (g * scaled.reshape(x.shape)).sum(axis=axes), g.sum(axis=axes)


def _standardize(x: Array, axes: Axes, eps: float) -> tuple[Array, Array]:
    """x̂ and √(variance + eps); the variance has the divisor n, not n − 1."""
    centered = x - x.mean(axis=axes, keepdims=True)
    variance = np.square(centered).mean(axis=axes, keepdims=True)
    deviation = np.sqrt(variance + number(eps, "eps", above=0))
    return centered / deviation, deviation


def _standardize_backward(g: Array, scaled: Array, deviation: Array, axes: Axes) -> Array:
    """As mean and variance depend on x, the gradient is g without its mean and its component along x̂, scaled."""
    along = (g * scaled).mean(axis=axes, keepdims=True)
    grad: Array = (g - g.mean(axis=axes, keepdims=True) - scaled * along) / deviation
    return grad


def _batch_standardize(x: Array, mean: ArrayLike | None, variance: ArrayLike | None, eps: float) -> tuple[Array, Array]:
    if (mean is None) != (variance is None):
        raise UsageError("mean, variance", "one of them", "both, or none", "mean=np.zeros(C), variance=np.ones(C)")
    if mean is None or variance is None:
        if x.size <= x.shape[1]:
            got = f"shape {x.shape}: one value a channel, which has no variance"
            raise ShapeError("x", got, "more samples or positions", "mean=…, variance=… of the training")
        return _standardize(x, _all_but_channels(x), eps)
    given_variance = _affine(variance, "variance", x, 1)
    if (given_variance < 0).any():
        raise UsageError("variance", f"{given_variance.min():g}", "at least 0", "variance=np.square(deviations)")
    deviation = np.sqrt(given_variance + number(eps, "eps", above=0))
    return (x - _affine(mean, "mean", x, 0)) / deviation, deviation


def _affine(value: ArrayLike | None, name: str, x: Array, default: float) -> Array:
    """One number for each channel, in a shape that broadcasts with x."""
    if value is None:
        return np.asarray(float(default))
    return exact(value, name, (x.shape[1],)).reshape(-1, *(1,) * (x.ndim - 2))


def _all_but_channels(x: Array) -> Axes:
    return tuple(i for i in range(x.ndim) if i != 1)


def _last(x: Array, normalized_shape: int | tuple[int, ...] | None) -> tuple[Axes, tuple[int, ...]]:
    shape = x.shape[1:] if normalized_shape is None else normalized_shape
    count = 1 if not hasattr(shape, "__len__") else len(shape)
    shape = per_axis(shape, count, "normalized_shape")
    if not shape or x.shape[-len(shape) :] != shape:
        expected = f"the last sizes of x, shape {x.shape}"
        raise ShapeError("normalized_shape", f"{shape}", expected, f"normalized_shape={x.shape[1:]}")
    return tuple(range(x.ndim - len(shape), x.ndim)), shape


def _grouped(x: Array, groups: int) -> Array:
    groups = check_groups(groups, input=x.shape[1])
    return x.reshape(len(x), groups, math.prod(x.shape[1:]) // groups)


def local_response_norm(x: ArrayLike, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Array:
    """y[n, c] = x[n, c] / (k + α/size · Σ_j x[n, j]²)^β over the `size` channels around c, as in torch.

    Channels c − size//2 … c + (size − 1)//2, cut at the ends; (N, C, …) to the same shape. The paper does not divide α
    by `size`, and has k = 2, size = 5, α = 10⁻⁴, β = 0.75: here, this is α = 5·10⁻⁴.
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
    centered, deviation, typical, least = _parts(x, size)
    y: Array = centered / np.maximum(np.maximum(deviation, typical), least)
    return y


def local_contrast_norm_backward(grad_out: ArrayLike, x: ArrayLike, size: int = 9) -> Array:
    """grad_x: backward through the quotient, the maximum of both divisors, the root, and both means over windows."""
    x = maps(x)
    centered, deviation, typical, least = _parts(x, size)
    g, positions = gradient(grad_out, x.shape), tuple(range(1, x.ndim))
    divisor = np.maximum(np.maximum(deviation, typical), least)
    grad_divisor = -(g * centered).sum(axis=1, keepdims=True) / divisor**2
    local = (deviation > typical) & (deviation >= least)
    of_typical = np.where(~local & (typical >= least), grad_divisor, 0).sum(axis=positions, keepdims=True)
    grad_deviation = np.where(local, grad_divisor, 0) + of_typical / np.prod(x.shape[2:])
    grad_squares = _blur_backward(
        np.where(deviation > 0, grad_deviation / (2 * np.where(deviation > 0, deviation, 1)), 0), size
    )
    grad_centered = g / divisor + 2 * centered * grad_squares / x.shape[1]
    grad: Array = grad_centered - _blur_backward(grad_centered.mean(axis=1, keepdims=True), size)
    return grad


def _parts(x: Array, size: int) -> tuple[Array, Array, Array, Array]:
    """v, σ, the mean of σ over the sample, and the least divisor, which keeps rounding errors from being amplified."""
    centered = x - _blur(x.mean(axis=1, keepdims=True), size)
    deviation = np.sqrt(_blur(np.square(centered).mean(axis=1, keepdims=True), size))
    positions = tuple(range(1, x.ndim))
    least = np.maximum(_RELATIVE * np.abs(x).max(axis=positions, keepdims=True), _TINY)
    return centered, deviation, deviation.mean(axis=positions, keepdims=True), least


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
