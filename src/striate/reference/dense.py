"""Fully connected layer, its gradient, and its computation as a 1×1 convolution."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import ShapeError
from striate.reference.arguments import Array, array, batch, exact, gradient
from striate.reference.convolve import convolve


def dense(x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> Array:
    """y[n, k] = b[k] + Σ_f w[k, f] · x[n, f]: every output is connected to every input.

    x (N, F), or (N, …) flattened to F numbers for each sample; w (K, F), b (K) → (N, K). ShapeError where F differs.
    """
    x, w = _read(x, w)
    y = x.reshape(len(x), w.shape[1]) @ w.T
    return y if b is None else y + exact(b, "b", (len(w),))


def dense_backward(grad_out: ArrayLike, x: ArrayLike, w: ArrayLike) -> tuple[Array, Array, Array]:
    """(grad_x, grad_w, grad_b), with the shapes of x, w and b."""
    x, w = _read(x, w)
    g = gradient(grad_out, (len(x), len(w)))
    return (g @ w).reshape(x.shape), g.T @ x.reshape(len(x), w.shape[1]), g.sum(axis=0)


def dense_as_convolution(x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> Array:
    """`dense`, computed as a 1×1 convolution: the F numbers of a sample are F channels of a map of one position."""
    x, w = _read(x, w)
    return convolve(x.reshape(len(x), w.shape[1], 1), w[:, :, np.newaxis], b)[:, :, 0]


def _read(x: ArrayLike, w: ArrayLike) -> tuple[Array, Array]:
    x, w = batch(x), array(w, "w")
    features = int(np.prod(x.shape[1:]))
    if w.ndim != 2 or w.shape[1] != features:
        stretched = " × ".join(map(str, x.shape[1:])) + (f" = {features}" if x.ndim > 2 else "")
        shape = (len(w) if w.ndim == 2 else 10, features)
        raise ShapeError("w", f"shape {w.shape} for {stretched} inputs", f"(K, {features})", f"w=np.ones({shape})")
    return x, w
