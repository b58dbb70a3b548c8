"""The windows of a layer along each axis of its map: their arithmetic in words, and sizes that fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from striate.account.ledger import Row
from striate.layers.axis_windows import AxisWindows
from striate.wording import formatted, listed


def windows_of(row: Row) -> tuple[AxisWindows, ...]:
    """The windows of a layer, one for each axis; () for a layer without windows, or a transposed convolution."""
    kernel, sides = row.settings.get("kernel"), row.in_shape[1:]
    if not kernel or len(kernel) != len(sides) or "transpose" in row.kind.lower():
        return ()
    ones, zeros = (1,) * len(sides), (0,) * len(sides)
    strides, dilations = row.settings.get("stride") or ones, row.settings.get("dilation") or ones
    before = row.settings.get("padding") or zeros
    after = row.settings.get("padding_after") or before
    return tuple(map(AxisWindows, sides, kernel, strides, before, after, dilations))


def arithmetic(windows: AxisWindows) -> str:
    """`(7−3)/3+1 = 2.33`"""
    added = windows.before + windows.after
    padding = f"+{added}" if added else ""
    return f"({windows.size}{padding}−{windows.span})/{windows.stride}+1 = {_decimal(windows.steps + 1)}"


def described(windows: AxisWindows) -> str:
    """`7 with kernel 3 and stride 3`, padding and dilation if there are any."""
    parts = [f"kernel {windows.kernel}", f"stride {windows.stride}"]
    if windows.before or windows.after:
        parts.append(f"padding {_padding(windows)}")
    if windows.dilation > 1:
        parts.append(f"dilation {windows.dilation}")
    return f"{windows.size} with {listed(parts, 4)}"


def ways_out(windows: AxisWindows) -> tuple[str, ...]:
    """Changes of one number after which every position is covered, each of them tried: `pad 1 → 3`.

    Unequal padding is written with both numbers: `pad 1 before and 2 after → 4`.
    """
    size, stride = windows.size, windows.stride
    padded = ((f"pad {_padding(other)}", other) for other in _other_padding(windows))
    slower = ((f"stride {s}", replace(windows, stride=s)) for s in range(stride - 1, 0, -1))
    larger = ((f"input {n}", replace(windows, size=n)) for n in range(size + 1, size + stride + 1))
    fitting = ((name, other) for name, other in larger if other.steps.is_integer())
    found = [next((way for way in tries if not way[1].uncovered()), None) for tries in (padded, slower, fitting)]
    return tuple(f"{name} → {other.count}" for name, other in filter(None, found))


def _other_padding(windows: AxisWindows) -> Iterator[AxisWindows]:
    """The windows with other padding, the nearest first: more on both sides where both are equal, else any."""
    # Pooling in torch takes at most half a window of padding, so that no window consists of padding alone.
    most = windows.span // 2
    if windows.before == windows.after:
        yield from (replace(windows, before=pad, after=pad) for pad in range(windows.before + 1, most + 1))
        return
    sides = (range(max(pad, most) + 1) for pad in (windows.before, windows.after))
    others = (replace(windows, before=before, after=after) for before, after in product(*sides))
    yield from sorted(others, key=lambda o: abs(o.before - windows.before) + abs(o.after - windows.after))[1:]


def _padding(windows: AxisWindows) -> str:
    if windows.before == windows.after:
        return str(windows.before)
    return f"{windows.before} before and {windows.after} after"


def _decimal(value: float) -> str:
    return formatted(value, ".2f").rstrip("0").rstrip(".")
