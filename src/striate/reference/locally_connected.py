"""Locally connected layer, and its gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import ShapeError
from striate.reference.arguments import Array, Size, array, exact, gradient, maps
from striate.reference.windows import Windows, pad, pad_backward, windows


def locally_connected(
    x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, *, stride: Size = 1, padding: Size | str = 0
) -> Array:
    """y[n, k, t] = b[k, t] + Σ_c Σ_a x[n, c, s·t + a − p] · w[t, k, c, a]: a convolution without shared weights.

    x (N, C, *size), w (*out, K, C, *kernel), b (K, *out) → (N, K, *out), 1 to 3 spatial axes; `padding` adds zeros.
    UsageError, ShapeError where sizes do not fit. Source: LeCun, "Generalization and network design strategies", 1989.
    """
    x, w, seen = _read(x, w, stride, padding)
    axes, channels = "xyz"[: x.ndim - 2], w.shape[x.ndim - 2]
    padded = pad(x, seen.pads)
    y = np.zeros((len(x), channels, *seen.out))
    for weight, met in seen.taps():
        y += np.einsum(f"nc{axes},{axes}kc->nk{axes}", padded[met], w[weight])
    return y if b is None else y + exact(b, "b", y.shape[1:])


def locally_connected_backward(
    grad_out: ArrayLike, x: ArrayLike, w: ArrayLike, *, stride: Size = 1, padding: Size | str = 0
) -> tuple[Array, Array, Array]:
    """(grad_x, grad_w, grad_b), each of the shape of what it is the gradient by."""
    x, w, seen = _read(x, w, stride, padding)
    axes, channels = "xyz"[: x.ndim - 2], w.shape[x.ndim - 2]
    g = gradient(grad_out, (len(x), channels, *seen.out))
    padded, grad_w = pad(x, seen.pads), np.zeros_like(w)
    grad_padded = np.zeros_like(padded)
    for weight, met in seen.taps():
        grad_padded[met] += np.einsum(f"nk{axes},{axes}kc->nc{axes}", g, w[weight])
        grad_w[weight] = np.einsum(f"nk{axes},nc{axes}->{axes}kc", g, padded[met])
    return pad_backward(grad_padded, seen.pads), grad_w, g.sum(axis=0)


def _read(x: ArrayLike, w: ArrayLike, stride: Size, padding: Size | str) -> tuple[Array, Array, Windows]:
    x, w = maps(x), array(w, "w")
    axes = x.ndim - 2
    if w.ndim != 2 * axes + 2 or 0 in w.shape:
        expected = f"(*out, K, C, *kernel): {2 * axes + 2} axes for x of shape {x.shape}"
        raise ShapeError("w", f"shape {w.shape}", expected, f"w=np.ones({(*x.shape[2:], 1, x.shape[1], *(1,) * axes)})")
    seen = windows(x.shape[2:], w.shape[axes + 2 :], stride, padding)
    shape = (*seen.out, w.shape[axes], x.shape[1], *seen.kernel)
    if w.shape != shape:
        got = f"shape {w.shape}: kernels for {w.shape[:axes]} places over {w.shape[axes + 1]} channels"
        raise ShapeError("w", got, f"{seen.out} places, {x.shape[1]} channels: shape {shape}", f"w=np.ones({shape})")
    return x, w, seen
