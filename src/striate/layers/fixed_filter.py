"""A classic filter as a layer without parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from difflib import get_close_matches

import torch
from torch import nn
from torch.nn import functional

from striate.errors import ShapeError, UsageError
from striate.layers.axis_windows import PADDING_MODES, furthest_reach
from striate.layers.kernels import KERNELS, Kernel, check_form


class FixedFilter(nn.Module):
    """Filters each of `channels` separately with the same kernel: (N, channels, H, W) to the same shape.

    `kernel` is a name (`sobel-x`; `striate.layers.kernels.KERNELS` has all), a `Kernel`, or rows of numbers with odd
    sides. `weight` (1, 1, *kernel) is a buffer: saved with the network, moved with it, not trained. A kernel of whole
    numbers over a divisor is summed in whole numbers and divided once. Results are not rounded or clipped to 0 to 255.
    `padding_mode` fills the pixels beyond the border: `replicate` (the nearest pixel), `zeros`, `reflect`, `circular`.
    Raises UsageError for an invalid kernel; ShapeError for other shapes, and for maps too small for `reflect` or
    `circular`.
    """

    weight: torch.Tensor

    def __init__(
        self, kernel: str | Kernel | Sequence[Sequence[float]], channels: int = 1, padding_mode: str = "replicate"
    ) -> None:
        super().__init__()
        if not isinstance(channels, int) or channels < 1:
            raise UsageError("channels", repr(channels), "a whole number of at least 1", "channels=1")
        if padding_mode not in PADDING_MODES:
            raise UsageError("padding_mode", repr(padding_mode), " or ".join(PADDING_MODES), 'padding_mode="replicate"')
        rows, self.divisor, self.name = _read(kernel)
        self.channels = channels
        self.padding_mode = padding_mode
        self.register_buffer("weight", torch.tensor(rows, dtype=torch.get_default_dtype())[None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._check(x)
        above, left = (side // 2 for side in self.weight.shape[2:])
        weight = self.weight.to(x.dtype).expand(self.channels, 1, -1, -1)
        if self.padding_mode == "zeros":
            summed = functional.conv2d(x, weight, padding=(above, left), groups=self.channels)
        else:
            padded = _continued(_continued(x, 2, above, self.padding_mode), 3, left, self.padding_mode)
            summed = functional.conv2d(padded, weight, groups=self.channels)
        return summed if self.divisor == 1 else summed / self.divisor

    def extra_repr(self) -> str:
        kernel = repr(self.name) if self.name else f"{self.weight.shape[2]} × {self.weight.shape[3]}"
        return f"{kernel}, channels={self.channels}, padding_mode={self.padding_mode!r}"

    def _check(self, x: torch.Tensor) -> None:
        where, shape = "input of FixedFilter", tuple(x.shape)
        if x.dim() != 4 or x.shape[1] != self.channels or 0 in x.shape[2:]:
            expected = f"(N, {self.channels}, H, W), no axis of a map empty"
            channels = x.shape[1] if x.dim() == 4 and x.shape[1] else 1
            raise ShapeError(where, f"shape {shape}", expected, f"channels={channels}")
        if not x.is_floating_point():
            raise UsageError(where, f"{x.dtype}", "floating-point numbers", "x.float()")
        reach = tuple(side // 2 for side in self.weight.shape[2:])
        limits = [furthest_reach(self.padding_mode, size) for size in x.shape[2:]]
        if any(limit is not None and far > limit for far, limit in zip(reach, limits, strict=True)):
            got = f"maps of {x.shape[2]} × {x.shape[3]}, and a kernel that reaches {reach} beyond them"
            least = [far + size - (limit or 0) for far, size, limit in zip(reach, x.shape[2:], limits, strict=True)]
            expected = f"maps of at least {least[0]} × {least[1]} for padding mode {self.padding_mode}"
            raise ShapeError(where, got, expected, 'padding_mode="replicate"')


def _continued(x: torch.Tensor, axis: int, reach: int, mode: str) -> torch.Tensor:
    """x with `reach` more positions on both sides of an axis."""
    # Not functional.pad, as torch 2.13 cannot compile the gradient of its `replicate`.
    if reach == 0:
        return x
    size = x.shape[axis]
    if mode == "replicate":
        shape = [reach if k == axis else -1 for k in range(x.dim())]
        before, after = x.narrow(axis, 0, 1).expand(shape), x.narrow(axis, size - 1, 1).expand(shape)
    elif mode == "reflect":
        before = x.narrow(axis, 1, reach).flip(axis)
        after = x.narrow(axis, size - 1 - reach, reach).flip(axis)
    else:
        before, after = x.narrow(axis, size - reach, reach), x.narrow(axis, 0, reach)
    return torch.cat([before, x, after], axis)


def _read(kernel: str | Kernel | Sequence[Sequence[float]]) -> tuple[list[list[float]], int, str]:
    """Rows, divisor, and name; the name is empty for rows of numbers."""
    if isinstance(kernel, str):
        if kernel not in KERNELS:
            near = get_close_matches(kernel, KERNELS, 1, 0.5) or ["sobel-x"]
            raise UsageError("kernel", repr(kernel[:80]), ", ".join(KERNELS), f"kernel={near[0]!r}")
        kernel = KERNELS[kernel]
    if isinstance(kernel, Kernel):
        return [list(map(float, row)) for row in kernel.weights], kernel.divisor, kernel.name
    try:
        rows = [[float(number) for number in row] for row in kernel]
    except (TypeError, ValueError):
        expected = "a name, a Kernel, or rows of numbers"
        raise UsageError("kernel", repr(kernel)[:80], expected, "kernel=[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]") from None
    check_form(rows)
    if not all(math.isfinite(number) for row in rows for number in row):
        raise UsageError("kernel", "NaN or Inf", "finite numbers", 'kernel="sobel-x"')
    return rows, 1, ""
