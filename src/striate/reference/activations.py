"""Activations, each with its derivative: `…_backward(grad_out, x)` is grad_out · f′(x), so with grad_out 1 it is f′.

At a kink, the derivative is that of the left side, as in torch. Any shape; channels are axis 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import ShapeError, UsageError
from striate.reference.arguments import Array, array, channel_axis, gradient, number, per_channel, whole
from striate.wording import several


def sigmoid(x: ArrayLike) -> Array:
    """1 / (1 + e^−x), between 0 and 1."""
    x = array(x, "x")
    small = np.exp(-np.abs(x))  # never overflows
    y: Array = np.where(x >= 0, 1, small) / (1 + small)
    return y


def sigmoid_backward(grad_out: ArrayLike, x: ArrayLike) -> Array:
    """σ′ = σ · (1 − σ): at most 1/4, and near 0 where the unit saturates."""
    y, mirrored = sigmoid(x), sigmoid(-array(x, "x"))  # 1 − σ(x) = σ(−x), without losing digits
    return gradient(grad_out, y.shape) * y * mirrored


def tanh(x: ArrayLike) -> Array:
    """(e^x − e^−x) / (e^x + e^−x), between −1 and 1."""
    return np.tanh(array(x, "x"))


def tanh_backward(grad_out: ArrayLike, x: ArrayLike) -> Array:
    """tanh′ = 1 − tanh²."""
    y = tanh(x)
    return gradient(grad_out, y.shape) * (1 - y) * (1 + y)


def relu(x: ArrayLike) -> Array:
    """max(0, x). Source: Nair and Hinton, "Rectified linear units", ICML 2010."""
    return np.maximum(array(x, "x"), 0)


def relu_backward(grad_out: ArrayLike, x: ArrayLike) -> Array:
    """The gradient passes where x > 0, and stops elsewhere."""
    x = array(x, "x")
    return np.where(x > 0, gradient(grad_out, x.shape), 0)


def leaky_relu(x: ArrayLike, slope: ArrayLike = 0.1) -> Array:
    """x where x > 0, slope · x elsewhere; max(0.1x, x) by default. `slope`: one number, or one for each channel."""
    x = array(x, "x")
    return np.where(x > 0, x, _slope(slope, x) * np.minimum(x, 0))


def leaky_relu_backward(grad_out: ArrayLike, x: ArrayLike, slope: ArrayLike = 0.1) -> Array:
    """The gradient, times `slope` where x ≤ 0."""
    x = array(x, "x")
    return gradient(grad_out, x.shape) * np.where(x > 0, 1, _slope(slope, x))


def prelu(x: ArrayLike, slope: ArrayLike) -> Array:
    """`leaky_relu` whose slope is learned. Source: He et al., "Delving deep into rectifiers", ICCV 2015."""
    return leaky_relu(x, slope)


def prelu_backward(grad_out: ArrayLike, x: ArrayLike, slope: ArrayLike) -> tuple[Array, Array]:
    """(grad_x, grad_slope): a slope gets the sum of grad_out · x over all x ≤ 0 that it was used for."""
    x, shape = array(x, "x"), array(slope, "slope").shape
    grad_x = leaky_relu_backward(grad_out, x, slope)
    each = np.where(x > 0, 0, gradient(grad_out, x.shape) * x)
    if _slope(slope, x).ndim == 0:
        return grad_x, each.sum().reshape(shape)
    return grad_x, each.sum(axis=tuple(i for i in range(x.ndim) if i != channel_axis(x)))


def elu(x: ArrayLike, alpha: float = 1.0) -> Array:
    """x where x > 0, α · (e^x − 1) elsewhere. Source: Clevert et al., "Exponential linear units", ICLR 2016."""
    x = array(x, "x")
    return np.where(x > 0, x, number(alpha, "alpha") * np.expm1(np.minimum(x, 0)))


def elu_backward(grad_out: ArrayLike, x: ArrayLike, alpha: float = 1.0) -> Array:
    """The gradient, times α · e^x where x ≤ 0."""
    x = array(x, "x")
    return gradient(grad_out, x.shape) * np.where(x > 0, 1, number(alpha, "alpha") * np.exp(np.minimum(x, 0)))


def swish(x: ArrayLike) -> Array:
    """x · σ(x), also called SiLU. Source: Ramachandran et al., "Searching for activation functions", 2017."""
    return array(x, "x") * sigmoid(x)


def swish_backward(grad_out: ArrayLike, x: ArrayLike) -> Array:
    """(x σ)′ = σ + x · σ · (1 − σ)."""
    x = array(x, "x")
    return gradient(grad_out, x.shape) * (sigmoid(x) + x * sigmoid_backward(1, x))


def maxout(x: ArrayLike, pieces: int) -> Array:
    """The largest of every `pieces` consecutive channels: (N, C, …) → (N, C / pieces, …).

    After a layer with `pieces` outputs for each unit, it is max(w₁·x + b₁, w₂·x + b₂, …).
    ShapeError where `pieces` does not divide C. Source: Goodfellow et al., "Maxout networks", ICML 2013.
    """
    split, axis = _pieces(x, pieces)
    y: Array = split.max(axis=axis)
    return y


def maxout_backward(grad_out: ArrayLike, x: ArrayLike, pieces: int) -> Array:
    """The gradient goes to the largest piece; in a tie, to the first."""
    split, axis = _pieces(x, pieces)
    winner = np.expand_dims(split.argmax(axis=axis), axis)
    grad = np.zeros_like(split)
    g = gradient(grad_out, split.shape[:axis] + split.shape[axis + 1 :])
    np.put_along_axis(grad, winner, np.expand_dims(g, axis), axis)
    return grad.reshape(np.shape(x))


def softmax(x: ArrayLike, axis: int | None = None) -> Array:
    """e^x / Σ e^x over the channels (axis 1, or 0 of a lone vector), or another `axis`: positive, with sum 1."""
    x = array(x, "x")
    axis = _axis(x, axis)
    e = np.exp(x - x.max(axis=axis, keepdims=True))  # a common factor cancels; this one keeps e^x finite
    y: Array = e / e.sum(axis=axis, keepdims=True)
    return y


def softmax_backward(grad_out: ArrayLike, x: ArrayLike, axis: int | None = None) -> Array:
    """y · (grad_out − Σ grad_out · y): a constant added to grad_out has no effect, as the outputs sum to 1."""
    x = array(x, "x")
    y, g, axis = softmax(x, axis), gradient(grad_out, x.shape), _axis(x, axis)
    grad: Array = y * (g - (g * y).sum(axis=axis, keepdims=True))
    return grad


def _slope(slope: ArrayLike, x: Array) -> Array:
    found = per_channel(slope, "slope", x)
    if not np.isfinite(found).all():
        raise UsageError("slope", str(slope), "finite numbers", "slope=0.1")
    return found


def _axis(x: Array, axis: int | None) -> int:
    axis = channel_axis(x) if axis is None else axis
    if isinstance(axis, bool) or not isinstance(axis, int) or not -x.ndim <= axis < x.ndim or x.shape[axis] == 0:
        expected = f"an axis with entries, of an array of shape {x.shape}"
        raise ShapeError("axis", f"{axis!r} for shape {x.shape}", expected, "softmax(logits), logits of shape (N, C)")
    return axis


def _pieces(x: ArrayLike, pieces: int) -> tuple[Array, int]:
    """x with its channels as (units, pieces), and the axis of the pieces."""
    values, pieces = array(x, "x"), whole(pieces, "pieces")
    axis = channel_axis(values)
    channels = values.shape[axis] if values.ndim else 0
    if channels == 0 or channels % pieces:
        fits = ", ".join(str(n) for n in range(1, min(channels, 1000) + 1) if channels % n == 0)
        got = f"{pieces} pieces for {several(channels, 'channel')}"
        raise ShapeError("pieces", got, f"a divisor of the channels: {fits or 'x has none'}", "pieces=1")
    return values.reshape(*values.shape[:axis], -1, pieces, *values.shape[axis + 1 :]), axis + 1
