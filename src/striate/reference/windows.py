"""The windows of a kernel on a map, or over channels: sizes, strides, dilation and padding, with error messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import numpy as np

from striate.errors import ShapeError, UsageError
from striate.reference.arguments import Array, per_axis, refuse_huge, whole
from striate.wording import several

_NUMPY_MODES: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}

Place = tuple[EllipsisType | slice, ...]


@dataclass(frozen=True)
class Windows:
    """All windows of a padded map, one entry for each spatial axis; output t reads input s·t + d·a − p by weight a.

    `pads`: (before, after). `out`: ⌊(size + before + after − d·(kernel − 1) − 1) / s⌋ + 1 windows.
    """

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    out: tuple[int, ...]

    def taps(self) -> Iterator[tuple[Any, Place]]:
        """For each weight of the kernel, its index and the part of the padded map that it reads, one entry a window."""
        for offset in np.ndindex(*self.kernel):
            steps = zip(offset, self.out, self.stride, self.dilation, strict=True)
            yield (..., *offset), (..., *(slice(d * a, d * a + s * (n - 1) + 1, s) for a, n, s, d in steps))


def windows(
    size: tuple[int, ...], kernel: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, mode: str = "zeros"
) -> Windows:
    """The windows over a map of `size`. Raises UsageError or ShapeError, with the arithmetic, where none fits."""
    axes = len(size)
    if mode not in _NUMPY_MODES:
        raise UsageError("padding_mode", repr(mode), " or ".join(_NUMPY_MODES), 'padding_mode="zeros"')
    kernel, stride = per_axis(kernel, axes, "kernel"), per_axis(stride, axes, "stride")
    dilation = per_axis(dilation, axes, "dilation")
    pads = _pads(padding, kernel, stride, dilation)
    _check_pads(size, pads, mode)
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    rooms = tuple(n + sum(p) for n, p in zip(size, pads, strict=True))
    if any(span > room for span, room in zip(spans, rooms, strict=True)):
        _refuse_kernel(size, spans, pads, mode)
    out = tuple((room - span) // s + 1 for room, span, s in zip(rooms, spans, stride, strict=True))
    return Windows(size, kernel, stride, dilation, pads, out)


def pool_windows(size: tuple[int, ...], kernel: Any, stride: Any, padding: Any) -> Windows:
    """The windows of a pooling layer: the stride is the window's size by default, padding at most half of it."""
    kernel = per_axis(kernel, len(size), "size")
    padding = per_axis(padding, len(size), "padding", low=0)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        most = tuple(k // 2 for k in kernel)
        why = f"at most half of size {kernel}, so that no window holds padding only"
        raise ShapeError("padding", f"{padding}", why, f"padding={most}")
    return windows(size, kernel, kernel if stride is None else stride, padding)


def pad(x: Array, pads: tuple[tuple[int, int], ...], mode: str = "zeros", value: float = 0) -> Array:
    """x with padded spatial axes: `zeros` (or `value`), `reflect` without the edge, `replicate`, `circular`."""
    refuse_huge(
        (*x.shape[: -len(pads)], *(n + sum(p) for n, p in zip(x.shape[-len(pads) :], pads, strict=True))), "padding"
    )
    widths = [(0, 0)] * (x.ndim - len(pads)) + list(pads)
    if mode == "zeros":
        return np.pad(x, widths, constant_values=value)
    return np.pad(x, widths, mode=_NUMPY_MODES[mode])


def pad_backward(grad: Array, pads: tuple[tuple[int, int], ...], mode: str = "zeros") -> Array:
    """The adjoint of `pad`: gradients of copies are added at the position of the original; those of constants are
    dropped."""
    for axis, (before, after) in enumerate(pads, start=grad.ndim - len(pads)):
        size = grad.shape[axis] - before - after
        inside = np.moveaxis(grad, axis, 0)
        if mode == "zeros":
            total = inside[before : before + size]
        else:
            total = np.zeros((size, *inside.shape[1:]), dtype=grad.dtype)
            np.add.at(total, np.pad(np.arange(size), (before, after), mode=_NUMPY_MODES[mode]), inside)
        grad = np.moveaxis(total, 0, axis)
    return grad


def _pads(padding: Any, kernel: Any, stride: Any, dilation: Any) -> tuple[tuple[int, int], ...]:
    if not isinstance(padding, str):
        return tuple((p, p) for p in per_axis(padding, len(kernel), "padding", low=0))
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding != "same":
        raise UsageError("padding", repr(padding), 'whole numbers of at least 0, "same" or "valid"', "padding=0")
    if max(stride) > 1:
        raise ShapeError("padding", f'"same" with stride {stride}', 'stride 1 for "same"', 'stride=1, padding="same"')
    wanted = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    # An even kernel has no center: the extra position goes after the map, as in torch.
    return tuple((total // 2, total - total // 2) for total in wanted)


def _check_pads(size: tuple[int, ...], pads: tuple[tuple[int, int], ...], mode: str) -> None:
    most = {"reflect": [n - 1 for n in size], "circular": list(size)}.get(mode)
    if most is not None and any(max(p) > m for p, m in zip(pads, most, strict=True)):
        why = "there is nothing further to reflect" if mode == "reflect" else "it would go around more than once"
        expected = f"at most {tuple(most)} around a map of {size}: {why}"
        raise ShapeError("padding", f"{pads} with padding_mode={mode!r}", expected, 'padding_mode="replicate"')


def _refuse_kernel(size: tuple[int, ...], spans: tuple[int, ...], pads: tuple[tuple[int, int], ...], mode: str) -> None:
    axis = next(i for i, span in enumerate(spans) if span > size[i] + sum(pads[i]))
    got = f"along spatial axis {axis} a kernel over {several(spans[axis], 'position')}"
    room = f"{size[axis]} + {pads[axis][0]} + {pads[axis][1]} = {several(size[axis] + sum(pads[axis]), 'position')}"
    least = [max(max(p), -(-(span - n) // 2)) for n, span, p in zip(size, spans, pads, strict=True)]
    endless = "" if mode == "zeros" else ', padding_mode="zeros"'
    raise ShapeError("kernel", got, f"at most the padded map, {room}", f"padding={tuple(least)}{endless}")


def neighbors(channels: int, size: int) -> Array:
    """The windows over channels as a matrix B (channels, channels): B[c, j] = 1 for j from c − size//2 to
    c + (size − 1)//2, else 0."""
    size = whole(size, "size")
    c, j = np.ogrid[:channels, :channels]
    return ((j >= c - size // 2) & (j <= c + (size - 1) // 2)).astype(np.float64)


def over_channels(matrix: Array, x: Array) -> Array:
    """y[n, c, …] = Σ_j matrix[c, j] · x[n, j, …]."""
    y: Array = np.einsum("cj,nj...->nc...", matrix, x)
    return y
