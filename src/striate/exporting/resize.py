"""Resizing as part of a network: the same geometry and bytes as `striate.data.media.image.fitting`, by tensor
operations that every runtime has.

The filter for bytes that torch took from Pillow sums whole numbers, with weights of 16 bits, and rounds to bytes
between the two axes. Here it is computed in float32 on whole numbers below 2^24, which float32 represents exactly, so
that all runtimes and orders of summation give the same bytes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from striate.data.config import Fit

_LARGEST_WEIGHT, _MOST_BITS = 2**15, 22
"""Weights have as many fractional bits as keep the largest below 2^15, at most 22."""
_LOW = 2**7
"""Weights are multiplied in two parts, so that each sum stays below 2^24."""

Side = Any
"""A whole number, or a symbolic one of a traced shape."""


class AxisFit(NamedTuple):
    """How a side of a picture lies on a side of the canvas; whole numbers, tensors ()."""

    start: torch.Tensor
    """The first pixel of the side that is used."""
    used: torch.Tensor
    """Number of pixels that are used."""
    inner: torch.Tensor
    """Number of pixels that they are scaled to."""
    offset: torch.Tensor
    """Where these begin on the canvas."""

    @property
    def scale(self) -> torch.Tensor:
        """Pixels of the canvas for a pixel of the picture, ()."""
        return self.inner.float() / self.used.float()

    @property
    def shift(self) -> torch.Tensor:
        """Position of the picture's edge on the canvas, ()."""
        return self.offset.float() - self.start.float() * self.scale


def number(value: Side) -> torch.Tensor:
    """A side as a tensor () that follows the shape of the input."""
    return torch.full((), value, dtype=torch.int64)


def fit_axes(height: Side, width: Side, size: tuple[Side, Side], fit: Fit) -> tuple[AxisFit, AxisFit]:
    """`striate.data.media.image.fitting.geometry` of the height and of the width, for sizes that are known only when
    the network is called."""
    down, right = _fit_axis(height, width, size, fit), _fit_axis(width, height, size[::-1], fit)
    return down, right


def _fit_axis(side: Side, other: Side, size: tuple[Side, Side], fit: Fit) -> AxisFit:
    own, across, to_own, to_across = (number(value) for value in (side, other, *size))
    none = torch.zeros((), dtype=torch.int64)
    if fit == "stretch":
        return AxisFit(none, own, to_own, none)
    if fit == "pad":
        inner = torch.minimum(to_own, _nearest(own * to_across, across).clamp(min=1))
        return AxisFit(none, own, inner, (to_own - inner) // 2)
    used = torch.minimum(own, _nearest(to_own * across, to_across).clamp(min=1))
    return AxisFit((own - used) // 2, used, to_own, none)


def whole_axes(height: Any, width: Any, size: tuple[int, int], fit: Fit) -> tuple[Any, Any]:
    """`striate.data.media.image.fitting.uncropped_size` for the symbolic whole numbers of a traced shape."""
    if fit == "stretch":
        return size
    choose = torch.sym_max if fit == "crop" else torch.sym_min
    return (
        choose(size[0], torch.sym_max(1, _nearest_of_sizes(height * size[1], width))),
        choose(size[1], torch.sym_max(1, _nearest_of_sizes(width * size[0], height))),
    )


def _nearest(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The whole number nearest to a / b; of two, the even one."""
    whole = torch.div(a, b, rounding_mode="floor")
    rest = 2 * (a - whole * b)
    up = (rest > b) | ((rest == b) & (whole % 2 == 1))
    return whole + up.long()


def _nearest_of_sizes(a: Any, b: Any) -> Any:
    """`_nearest` without a comparison, which tracing would have to evaluate."""
    doubled = 2 * a + b
    up = doubled // (2 * b)
    tie = 1 - torch.sym_min(1, doubled % (2 * b))
    return up - tie * (up % 2)


def axis_weights(fit: AxisFit, side: Side, out: Side) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, side) weights of a side's pixels for those of the canvas, whole numbers; and () their nominal sum, a power
    of two."""
    at = 2 * (torch.arange(out) - fit.offset) + 1
    pixel = 2 * (torch.arange(side) - fit.start) + 1
    inside = ((pixel > 0) & (pixel < 2 * fit.used))[None] & ((at > 0) & (at < 2 * fit.inner))[:, None]
    # The triangle filter, in units in which its corners are whole numbers.
    distance = (pixel[None] * fit.inner - at[:, None] * fit.used).abs()
    heights = (2 * torch.maximum(fit.used, fit.inner) - distance).clamp(min=0) * inside
    part = heights.float()
    total = part.sum(1, keepdim=True).clamp(min=1)
    steps = 2.0 ** torch.arange(_MOST_BITS)
    fits = torch.floor((part / total).max() * 2 * steps + 0.5) < _LARGEST_WEIGHT
    unit = 1 + (fits * steps).sum()
    return _rounded_quotient(part * unit, total), unit


def _rounded_quotient(numerator: torch.Tensor, divisor: torch.Tensor) -> torch.Tensor:
    """The whole number nearest to a quotient below 2^15, halves rounded up; the float32 quotient is corrected by the
    remainder, which is computed in exact parts."""
    guess = torch.floor(numerator / divisor + 0.5)
    high, over = torch.floor(guess / 256), torch.floor(divisor / 4096)
    low, under = guess - 256 * high, divisor - 4096 * over
    rest = numerator - high * over * 2.0**20 - high * under * 256 - low * over * 4096 - low * under
    return guess + (2 * rest >= divisor).float() - (2 * rest < -divisor).float()


def _digits(weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    high = torch.floor(weights / _LOW)
    return high, weights - _LOW * high


def _bytes_of(high: torch.Tensor, low: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """(high · 128 + low) / unit, rounded to bytes, halves rounded up."""
    carried = torch.floor((low + unit / 2) / _LOW)
    return torch.floor((high + carried) / (unit / _LOW)).clamp(0, 255)


def resize(image: torch.Tensor, size: tuple[Side, Side], fit: Fit) -> tuple[torch.Tensor, tuple[AxisFit, AxisFit]]:
    """(N, C, *size) pictures (N, H, W, C) uint8 on a black canvas, as bytes in float32; and how they lie on it."""
    height, width = image.shape[1:3]
    down, right = fit_axes(height, width, size, fit)
    x = image.permute(0, 3, 1, 2).float()
    weights, unit = axis_weights(right, width, size[1])
    high, low = (part.transpose(0, 1) for part in _digits(weights))
    x = _bytes_of(x @ high, x @ low, unit)
    weights, unit = axis_weights(down, height, size[0])
    high, low = _digits(weights)
    return _bytes_of(high @ x, low @ x, unit), (down, right)


def sizes_around(own: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Five sizes (height, width): that of the inputs, and larger, smaller, wider and higher ones."""
    height, width = own
    return (
        own,
        (2 * height + 1, 2 * width + 7),
        (max(2, height // 2 + 3), max(2, width // 2 + 1)),
        (height + 5, 3 * width // 2),
        (2 * height + 5, width + 1),
    )
