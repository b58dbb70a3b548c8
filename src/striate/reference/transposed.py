"""Transposed convolution, and its gradient."""

from __future__ import annotations

import math
from types import EllipsisType

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import ShapeError
from striate.reference.arguments import Array, Size, array, exact, gradient, maps, per_axis, refuse_huge
from striate.reference.convolve import by_group, check_groups
from striate.reference.windows import Windows


def transposed_convolve(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Array:
    """y[n, k, s·t + d·a − p] += Σ_c x[n, c, t] · w[c, k, a]: every input stamps its kernel on the output.

    The adjoint of `convolve` with the same w: ⟨convolve(y, w), x⟩ = ⟨y, transposed_convolve(x, w)⟩.
    x (N, C, *size), w (C, K/groups, *kernel), b (K) → (N, K, *out) with
    out = (size − 1)·s − 2p + d·(kernel − 1) + 1 + output_padding, 1 to 3 spatial axes.
    `output_padding`, less than stride or dilation, says which of the sizes that a stride maps to the same one is meant.
    UsageError, ShapeError where sizes do not fit. Source: Zeiler et al., "Deconvolutional networks", CVPR 2010; the
    arithmetic is that of `torch.nn.functional.conv_transpose2d`.
    """
    x, w, seen = _read(x, w, stride, padding, output_padding, dilation, groups)
    axes, channels = "xyz"[: x.ndim - 2], w.shape[1] * groups
    inputs, kernels = by_group(x, 1, groups), by_group(w, 0, groups)
    y = np.zeros((len(x), groups, w.shape[1], *seen.size))
    for weight, met in seen.taps():
        y[met] += np.einsum(f"ngc{axes},gck->ngk{axes}", inputs, kernels[weight])
    y = y.reshape(len(x), channels, *seen.size)[_inside(seen)]
    return y if b is None else y + exact(b, "b", (channels,)).reshape(-1, *(1,) * len(axes))


def transposed_convolve_backward(
    grad_out: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    *,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """(grad_x, grad_w, grad_b); grad_x is the plain convolution of grad_out with w."""
    x, w, seen = _read(x, w, stride, padding, output_padding, dilation, groups)
    axes, channels = "xyz"[: x.ndim - 2], w.shape[1] * groups
    inputs, kernels = by_group(x, 1, groups), by_group(w, 0, groups)
    whole_map = np.zeros((len(x), channels, *seen.size))
    g = whole_map[_inside(seen)]
    g[...] = gradient(grad_out, g.shape)
    grad_x, grad_w, g_ = np.zeros_like(inputs), np.zeros_like(kernels), by_group(whole_map, 1, groups)
    for weight, met in seen.taps():
        grad_x += np.einsum(f"ngk{axes},gck->ngc{axes}", g_[met], kernels[weight])
        grad_w[weight] = np.einsum(f"ngk{axes},ngc{axes}->gck", g_[met], inputs)
    return grad_x.reshape(x.shape), grad_w.reshape(w.shape), g.sum(axis=(0, *range(2, g.ndim)))


def _inside(seen: Windows) -> tuple[EllipsisType | slice, ...]:
    return (..., *(slice(before, size - after) for size, (before, after) in zip(seen.size, seen.pads, strict=True)))


def _read(
    x: ArrayLike, w: ArrayLike, stride: Size, padding: Size, output_padding: Size, dilation: Size, groups: int
) -> tuple[Array, Array, Windows]:
    x, w = maps(x), array(w, "w")
    axes = x.ndim - 2
    if w.ndim != x.ndim or math.prod(w.shape) == 0 or len(w) != x.shape[1]:
        expected = f"({x.shape[1]}, K/groups, *kernel) with {axes} spatial axes, for x of shape {x.shape}"
        shape = (x.shape[1], 1, *(3,) * axes)
        raise ShapeError("w", f"shape {w.shape}", expected, f"w=np.ones({shape})")
    check_groups(groups, input=x.shape[1])
    steps, gaps = per_axis(stride, axes, "stride"), per_axis(dilation, axes, "dilation")
    cut, extra = per_axis(padding, axes, "padding", low=0), per_axis(output_padding, axes, "output_padding", low=0)
    if any(e >= max(s, d) for e, s, d in zip(extra, steps, gaps, strict=True)):
        expected = f"less than stride {steps} or dilation {gaps}"
        raise ShapeError("output_padding", f"{extra}", expected, "output_padding=0")
    each = zip(x.shape[2:], w.shape[2:], steps, gaps, extra, strict=True)
    size = tuple((n - 1) * s + d * (k - 1) + 1 + e for n, k, s, d, e in each)
    if any(n <= 2 * p for n, p in zip(size, cut, strict=True)):
        most = tuple((n - 1) // 2 for n in size)
        got = f"{cut} cut from both ends of {size} positions"
        raise ShapeError("padding", got, f"at most {most}, so that an output is left", f"padding={most}")
    refuse_huge((len(x), w.shape[1] * groups, *size), "stride")
    # The windows of the convolution that leads from the output back to the input.
    return x, w, Windows(size, w.shape[2:], steps, gaps, tuple((p, p) for p in cut), x.shape[2:])
