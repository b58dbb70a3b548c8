"""What lies beyond the border of a map, in the words of torch; free of torch."""

from __future__ import annotations

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
"""0; the map mirrored at its outermost positions; the nearest position; the other side of the map."""


def furthest_reach(mode: str, size: int) -> int | None:
    """By how many positions an axis of `size` can be continued at each end; None where there is no limit."""
    return {"reflect": size - 1, "circular": size}.get(mode)
