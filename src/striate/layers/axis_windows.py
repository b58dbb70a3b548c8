"""Windows along one axis of a map: how many there are, what they cover, and padding modes; free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class AxisWindows:
    """Windows of a convolution or pooling along one axis."""

    size: int
    """Number of input positions."""
    kernel: int
    stride: int = 1
    before: int = 0
    """Positions of padding before the input."""
    after: int = 0
    """Positions of padding after the input."""
    dilation: int = 1
    round_up: bool = False
    """Whether a last, incomplete window counts too (`ceil_mode` of torch's poolings)."""

    @property
    def span(self) -> int:
        """Positions from the first to the last one that a window reads, inclusive."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def padded(self) -> int:
        """The size with padding."""
        return self.size + self.before + self.after

    @property
    def steps(self) -> float:
        """(padded size − span) / stride: a whole number where the windows fit."""
        return (self.padded - self.span) / self.stride

    @property
    def count(self) -> int:
        """Number of windows; 0 if none fits. An incomplete last window is dropped unless `round_up`."""
        if not self.round_up:
            return max(0, math.floor(self.steps) + 1)
        # With `round_up`, the last window may lack up to `stride` − 1 positions; none begins in the padding at the end.
        windows = max(0, math.ceil(self.steps) + 1)
        return windows - (windows > 0 and (windows - 1) * self.stride >= self.size + self.before)

    def uncovered(self) -> list[int]:
        """The positions, from 0, that no window reads."""
        seen = {
            window * self.stride - self.before + tap * self.dilation
            for window in range(self.count)
            for tap in range(self.kernel)
        }
        return [position for position in range(self.size) if position not in seen]


def same_padding(span: int) -> tuple[int, int]:
    """The padding before and after an axis with which windows of `span` and stride 1 keep the size: if it is odd, the
    extra position goes after, as in torch."""
    return (span - 1) // 2, span - 1 - (span - 1) // 2


PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
"""0; the map mirrored at its outermost positions; the nearest position; the other side of the map."""


def furthest_reach(mode: str, size: int) -> int | None:
    """Most positions by which an axis of `size` can be padded at each end; None for no limit."""
    return {"reflect": size - 1, "circular": size}.get(mode)
