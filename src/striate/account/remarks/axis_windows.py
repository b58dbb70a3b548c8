"""Windows along one axis of a map: how many there are, what they cover, and what would fit; free of torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from striate.account.ledger import Row
from striate.wording import listed


@dataclass(frozen=True)
class AxisWindows:
    """Windows along one axis: `size` positions, `kernel`, `stride`, `before` and `after` positions of padding,
    `dilation`."""

    size: int
    kernel: int
    stride: int = 1
    before: int = 0
    after: int = 0
    dilation: int = 1

    @property
    def span(self) -> int:
        """From the first to the last position that one window reads."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def steps(self) -> float:
        """(size + padding − span) / stride: a whole number where the windows fit."""
        return (self.size + self.before + self.after - self.span) / self.stride

    @property
    def count(self) -> int:
        """How many windows there are: what does not fit is dropped."""
        return math.floor(self.steps) + 1

    def uncovered(self) -> list[int]:
        """The positions, from 0, that no window reads."""
        seen = {
            window * self.stride - self.before + tap * self.dilation
            for window in range(self.count)
            for tap in range(self.kernel)
        }
        return [position for position in range(self.size) if position not in seen]

    def arithmetic(self) -> str:
        """`(7−3)/3+1 = 2.33`"""
        padding = f"+{self.before + self.after}" if self.before + self.after else ""
        return f"({self.size}{padding}−{self.span})/{self.stride}+1 = {_decimal(self.steps + 1)}"

    def described(self) -> str:
        """`7 with kernel 3 and stride 3`, padding and dilation if there are any."""
        parts = [f"kernel {self.kernel}", f"stride {self.stride}"]
        if self.before + self.after:
            pad = str(self.before) if self.before == self.after else f"{self.before} and {self.after}"
            parts.append(f"padding {pad}")
        if self.dilation > 1:
            parts.append(f"dilation {self.dilation}")
        return f"{self.size} with {listed(parts, 4)}"


def ways_out(windows: AxisWindows) -> tuple[str, ...]:
    """Changes of one number after which every position is covered, each tried: `pad 1 → 3` gives 3 windows."""
    size, stride, pad = windows.size, windows.stride, windows.before

    def changed(size: int = size, stride: int = stride, pad: int = pad) -> AxisWindows:
        return AxisWindows(size, windows.kernel, stride, pad, pad, windows.dilation)

    # Pooling in torch takes at most half a window of padding; more would be windows of padding alone.
    tries = [[(f"pad {p}", changed(pad=p)) for p in range(pad + 1, windows.span // 2 + 1)]]
    tries.append([(f"stride {s}", changed(stride=s)) for s in range(stride - 1, 0, -1)])
    bigger = [(f"input {n}", changed(size=n)) for n in range(size + 1, size + stride + 1)]
    tries.append([(name, other) for name, other in bigger if other.steps.is_integer()])
    found = [next((way for way in group if not way[1].uncovered()), None) for group in tries]
    return tuple(f"{name} → {other.count}" for name, other in filter(None, found))


def windows_of(row: Row) -> tuple[AxisWindows, ...]:
    """The windows of a layer, one an axis; () where it has none, as a transposed convolution."""
    kernel, sides = row.settings.get("kernel"), row.in_shape[1:]
    if not kernel or len(kernel) != len(sides) or "transpose" in row.kind.lower():
        return ()
    ones, zeros = (1,) * len(sides), (0,) * len(sides)
    strides, dilations = row.settings.get("stride") or ones, row.settings.get("dilation") or ones
    pads = [pad if isinstance(pad, Sequence) else (pad, pad) for pad in row.settings.get("padding") or zeros]
    return tuple(
        AxisWindows(side, k, s, pad[0], pad[-1], d)
        for side, k, s, pad, d in zip(sides, kernel, strides, pads, dilations, strict=True)
    )


def _decimal(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
