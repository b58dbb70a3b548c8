"""Convolution, transposed convolution and locally connected layer, each with its gradient."""

from __future__ import annotations

import math
from types import EllipsisType

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import ShapeError
from striate.reference.arguments import (
    Array,
    Size,
    array,
    exact,
    gradient,
    maps,
    not_empty,
    per_axis,
    refuse_huge,
    whole,
)
from striate.reference.windows import Windows, pad, pad_backward, windows
from striate.wording import several


def convolve(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    flip: bool = False,
) -> Array:
    """y[n, k, t] = b[k] + Σ_c Σ_a x[n, c, s·t + d·a − p] · w[k, c, a], for 1 to 3 spatial axes.

    x (N, C, *size), w (K, C/groups, *kernel), b (K) → (N, K, *out) with out = ⌊(size + 2p − d·(kernel − 1) − 1)/s⌋ + 1.
    This is the cross-correlation; `flip` reverses the kernel, which gives the mathematical convolution.
    `padding` is a size, `"same"` (stride 1) or `"valid"`; `padding_mode` is `zeros`, `reflect`, `replicate` or
    `circular`. With `groups`, each group of channels has kernels of its own.
    UsageError, ShapeError where sizes do not fit. Source: LeCun et al., "Gradient-based learning applied to document
    recognition", 1998; the arithmetic is that of `torch.nn.functional.conv2d`.
    """
    x, w, seen = _read(x, w, stride, padding, dilation, groups, padding_mode)
    axes = "xyz"[: x.ndim - 2]
    kernels = by_group(_turn(w, flip), 0, groups)
    padded = by_group(pad(x, seen.pads, padding_mode), 1, groups)
    refuse_huge((len(x), len(w), *seen.out), "padding")
    y = np.zeros((len(x), groups, len(w) // groups, *seen.out))
    for weight, met in seen.taps():
        y += np.einsum(f"ngc{axes},gkc->ngk{axes}", padded[met], kernels[weight])
    y = y.reshape(len(x), len(w), *seen.out)
    return y if b is None else y + exact(b, "b", (len(w),)).reshape(-1, *(1,) * len(axes))


def convolve_backward(
    grad_out: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    *,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
    flip: bool = False,
) -> tuple[Array, Array, Array]:
    """(grad_x, grad_w, grad_b): for each product x · w in `convolve`, x gets w · grad_out, and w gets x · grad_out.

    grad_out (N, K, *out), or one number for all of it; the other arguments are those of `convolve`.
    """
    x, w, seen = _read(x, w, stride, padding, dilation, groups, padding_mode)
    axes = "xyz"[: x.ndim - 2]
    g = gradient(grad_out, (len(x), len(w), *seen.out))
    kernels = by_group(_turn(w, flip), 0, groups)
    padded = by_group(pad(x, seen.pads, padding_mode), 1, groups)
    grad_padded, grad_w, g_ = np.zeros_like(padded), np.zeros_like(kernels), by_group(g, 1, groups)
    for weight, met in seen.taps():
        grad_padded[met] += np.einsum(f"ngk{axes},gkc->ngc{axes}", g_, kernels[weight])
        grad_w[weight] = np.einsum(f"ngk{axes},ngc{axes}->gkc", g_, padded[met])
    grad_padded = grad_padded.reshape(*x.shape[:2], *padded.shape[3:])
    grad_x = pad_backward(grad_padded, seen.pads, padding_mode)
    return grad_x, _turn(grad_w.reshape(w.shape), flip), g.sum(axis=(0, *range(2, g.ndim)))


def by_group(values: Array, axis: int, groups: int) -> Array:
    """One axis of channels as two: (groups, channels in the group)."""
    return values.reshape(*values.shape[:axis], groups, values.shape[axis] // groups, *values.shape[axis + 1 :])


def check_groups(groups: int, **channels: int) -> int:
    """`groups` as a whole number; ShapeError unless it divides each number of channels."""
    groups = whole(groups, "groups")
    for name, count in channels.items():
        if count % groups:
            fits = [n for n in range(1, min(count, 1000) + 1) if not any(c % n for c in channels.values())]
            listed = ", ".join(map(str, fits[:12]))
            got = f"{groups} for {count} {name} channels: {count} / {groups} = {count / groups:.2f}"
            raise ShapeError("groups", got, f"a divisor: {listed}", f"groups={max(n for n in fits if n <= groups)}")
    return groups


def _read(
    x: ArrayLike, w: ArrayLike, stride: Size, padding: Size | str, dilation: Size, groups: int, mode: str
) -> tuple[Array, Array, Windows]:
    x, w = maps(x), array(w, "w")
    axes = x.ndim - 2
    if w.ndim != x.ndim or math.prod(w.shape) == 0:
        expected = (
            f"(K, C/groups, *kernel) with {several(axes, 'spatial axis', 'spatial axes')}, for x of shape {x.shape}"
        )
        raise ShapeError("w", f"shape {w.shape}", expected, _with_axes(x, w))
    not_empty(w, "w")
    if w.shape[1] * whole(groups, "groups") != x.shape[1] or len(w) % groups:
        _refuse_groups(x, w, groups)
    return x, w, windows(x.shape[2:], w.shape[2:], stride, padding, dilation, mode)


def _with_axes(x: Array, w: Array) -> str:
    """The remedy that adds the missing axes to x or w; if none is missing, a w that fits."""
    if math.prod(w.shape) and w.ndim == x.ndim + 1:
        return "x[None] for a batch of one"
    if math.prod(w.shape) and w.ndim == x.ndim - 2 and x.shape[1] == 1:
        return "w[None, None] for one kernel over one channel"
    if math.prod(w.shape) and w.ndim == x.ndim - 1 and x.shape[1] in (1, len(w)):
        return "w[:, None] for kernels over one channel" if x.shape[1] == 1 else "w[None] for one kernel"
    return f"w=np.ones({(1, x.shape[1], *(1,) * (x.ndim - 2))})"


def _refuse_groups(x: Array, w: Array, groups: int) -> None:
    kernels, channels = several(len(w), "kernel"), several(w.shape[1], "channel")
    got = f"{kernels} over {channels} in {several(groups, 'group')}, for {several(x.shape[1], 'channel')} of x"
    fits, left = divmod(x.shape[1], w.shape[1])
    if left == 0 and len(w) % fits == 0:
        raise ShapeError("groups", got, f"{x.shape[1]} / {w.shape[1]} = {several(fits, 'group')}", f"groups={fits}")
    check_groups(groups, input=x.shape[1], output=len(w))
    shape = (len(w), x.shape[1] // groups, *w.shape[2:])
    raise ShapeError(
        "w", got, f"{x.shape[1]} / {groups} = {several(shape[1], 'channel')} a kernel", f"w=np.ones({shape})"
    )


def _turn(w: Array, flip: bool) -> Array:
    return np.flip(w, axis=tuple(range(2, w.ndim))) if flip else w


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
    """y[n, k, s·t + d·a − p] += Σ_c x[n, c, t] · w[c, k, a]: every input adds its multiple of the kernel to the output.

    The adjoint of `convolve` with the same w: ⟨convolve(y, w), x⟩ = ⟨y, transposed_convolve(x, w)⟩.
    x (N, C, *size), w (C, K/groups, *kernel), b (K) → (N, K, *out) with
    out = (size − 1)·s − 2p + d·(kernel − 1) + 1 + output_padding, 1 to 3 spatial axes.
    `output_padding`, less than stride or dilation, selects one of the output sizes that a stride maps to this size.
    UsageError, ShapeError where sizes do not fit. Source: Zeiler et al., "Deconvolutional networks", CVPR 2010; the
    arithmetic is that of `torch.nn.functional.conv_transpose2d`.
    """
    x, w, seen = _read_transposed(x, w, stride, padding, output_padding, dilation, groups)
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
    """(grad_x, grad_w, grad_b); grad_x is `convolve` of grad_out with w."""
    x, w, seen = _read_transposed(x, w, stride, padding, output_padding, dilation, groups)
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


def _read_transposed(
    x: ArrayLike, w: ArrayLike, stride: Size, padding: Size, output_padding: Size, dilation: Size, groups: int
) -> tuple[Array, Array, Windows]:
    x, w = maps(x), array(w, "w")
    axes = x.ndim - 2
    if w.ndim != x.ndim or math.prod(w.shape) == 0 or len(w) != x.shape[1]:
        expected = (
            f"({x.shape[1]}, K/groups, *kernel) with {several(axes, 'spatial axis', 'spatial axes')}, for x "
            f"of shape {x.shape}"
        )
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
    # The windows of the convolution from the output to the input.
    return x, w, Windows(size, w.shape[2:], steps, gaps, tuple((p, p) for p in cut), x.shape[2:])


def locally_connected(
    x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None, *, stride: Size = 1, padding: Size | str = 0
) -> Array:
    """y[n, k, t] = b[k, t] + Σ_c Σ_a x[n, c, s·t + a − p] · w[t, k, c, a]: a convolution without shared weights.

    x (N, C, *size), w (*out, K, C, *kernel), b (K, *out) → (N, K, *out), 1 to 3 spatial axes; `padding` adds zeros.
    UsageError, ShapeError where sizes do not fit. Source: LeCun, "Generalization and network design strategies", 1989.
    """
    x, w, seen = _read_local(x, w, stride, padding)
    axes, channels = "xyz"[: x.ndim - 2], w.shape[x.ndim - 2]
    padded = pad(x, seen.pads)
    y = np.zeros((len(x), channels, *seen.out))
    for weight, met in seen.taps():
        y += np.einsum(f"nc{axes},{axes}kc->nk{axes}", padded[met], w[weight])
    return y if b is None else y + exact(b, "b", y.shape[1:])


def locally_connected_backward(
    grad_out: ArrayLike, x: ArrayLike, w: ArrayLike, *, stride: Size = 1, padding: Size | str = 0
) -> tuple[Array, Array, Array]:
    """(grad_x, grad_w, grad_b), with the shapes of x, w and b."""
    x, w, seen = _read_local(x, w, stride, padding)
    axes, channels = "xyz"[: x.ndim - 2], w.shape[x.ndim - 2]
    g = gradient(grad_out, (len(x), channels, *seen.out))
    padded, grad_w = pad(x, seen.pads), np.zeros_like(w)
    grad_padded = np.zeros_like(padded)
    for weight, met in seen.taps():
        grad_padded[met] += np.einsum(f"nk{axes},{axes}kc->nc{axes}", g, w[weight])
        grad_w[weight] = np.einsum(f"nk{axes},nc{axes}->{axes}kc", g, padded[met])
    return pad_backward(grad_padded, seen.pads), grad_w, g.sum(axis=0)


def _read_local(x: ArrayLike, w: ArrayLike, stride: Size, padding: Size | str) -> tuple[Array, Array, Windows]:
    x, w = maps(x), array(w, "w")
    axes = x.ndim - 2
    if w.ndim != 2 * axes + 2 or 0 in w.shape:
        expected = f"(*out, K, C, *kernel): {several(2 * axes + 2, 'axis', 'axes')} for x of shape {x.shape}"
        raise ShapeError("w", f"shape {w.shape}", expected, f"w=np.ones({(*x.shape[2:], 1, x.shape[1], *(1,) * axes)})")
    seen = windows(x.shape[2:], w.shape[axes + 2 :], stride, padding)
    shape = (*seen.out, w.shape[axes], x.shape[1], *seen.kernel)
    if w.shape != shape:
        got = f"shape {w.shape}: kernels for {w.shape[:axes]} places over {several(w.shape[axes + 1], 'channel')}"
        raise ShapeError(
            "w", got, f"{seen.out} places, {several(x.shape[1], 'channel')}: shape {shape}", f"w=np.ones({shape})"
        )
    return x, w, seen
