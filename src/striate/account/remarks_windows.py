"""Remarks on windows and their maps: positions that none covers, even kernels, maps of a single position."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from striate.account.ledger import Ledger, Row
from striate.account.wording import listed, several, show_shape, show_sizes
from striate.records import Finding

_AXES = {1: ("position",), 2: ("row", "column"), 3: ("slice", "row", "column")}


@dataclass(frozen=True)
class Window:
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


def ways_out(window: Window) -> tuple[str, ...]:
    """Changes of one number after which every position is covered, each tried: `pad 1 → 3` gives 3 windows."""
    size, stride, pad = window.size, window.stride, window.before

    def changed(size: int = size, stride: int = stride, pad: int = pad) -> Window:
        return Window(size, window.kernel, stride, pad, pad, window.dilation)

    # Pooling in torch takes at most half a window of padding; more would be windows of padding alone.
    tries = [[(f"pad {p}", changed(pad=p)) for p in range(pad + 1, window.span // 2 + 1)]]
    tries.append([(f"stride {s}", changed(stride=s)) for s in range(stride - 1, 0, -1)])
    bigger = [(f"input {n}", changed(size=n)) for n in range(size + 1, size + stride + 1)]
    tries.append([(name, other) for name, other in bigger if other.steps.is_integer()])
    found = [next((way for way in group if not way[1].uncovered()), None) for group in tries]
    return tuple(f"{name} → {other.count}" for name, other in filter(None, found))


def windows_of(row: Row) -> tuple[Window, ...]:
    """The windows of a layer, one an axis; () where it has none."""
    kernel, sides = row.settings.get("kernel"), row.in_shape[1:]
    if not kernel or len(kernel) != len(sides):
        return ()
    ones, zeros = (1,) * len(sides), (0,) * len(sides)
    strides, dilations = row.settings.get("stride") or ones, row.settings.get("dilation") or ones
    pads = [pad if isinstance(pad, Sequence) else (pad, pad) for pad in row.settings.get("padding") or zeros]
    return tuple(
        Window(side, k, s, pad[0], pad[-1], d)
        for side, k, s, pad, d in zip(sides, kernel, strides, pads, dilations, strict=True)
    )


def window_remarks(ledger: Ledger) -> Iterator[Finding]:
    """What does not fit, what is skipped, kernels that shift by half a pixel, kernels on a single position."""
    missing = [row for row in ledger.rows if any(row.leftover) and windows_of(row)]
    # Windows that stand apart leave positions between them; all others only at the end.
    yield from _left_over([row for row in missing if not _apart(row)])
    yield from _skipped(ledger, [row for row in missing if _apart(row)])
    yield from _half_pixel(ledger)
    yield from _single_position(ledger)


def _apart(row: Row) -> bool:
    """Whether positions are skipped between windows, not only at the end."""
    return any(
        position < window.size - left
        for window, left in zip(windows_of(row), row.leftover, strict=True)
        for position in window.uncovered()
    )


def _left_over(rows: Sequence[Row]) -> Iterator[Finding]:
    by_windows = sorted(rows, key=lambda row: str(windows_of(row)))
    for _, group in groupby(by_windows, windows_of):
        same = list(group)
        row = same[0]
        windows = windows_of(row)
        axes = [axis for axis, left in enumerate(row.leftover) if left]
        ways = list(dict.fromkeys(way for axis in axes for way in ways_out(windows[axis])))
        sums = list(dict.fromkeys(f"{windows[a].described()} does not fit: {windows[a].arithmetic()}" for a in axes))
        yield Finding(
            "account.leftover",
            "warning",
            listed([row.name for row in same]),
            f"{'; '.join(sums)}; {_never_seen(row)}",
            "every position in some window",
            "The part of a window that does not fit is dropped, and with it what lies at the far edge.",
            f"{'; '.join(ways)}." if ways else "Another kernel, or a larger input.",
        )


def _never_seen(row: Row) -> str:
    names = _AXES.get(len(row.leftover), ("position",) * len(row.leftover))
    lost = [(left, name) for left, name in zip(row.leftover, names, strict=True) if left]
    if len({left for left, _ in lost}) == 1:
        left, words = (
            lost[0][0],
            " and ".join(dict.fromkeys(name if lost[0][0] == 1 else f"{name}s" for _, name in lost)),
        )
        return (
            f"the last {words} {'is' if len(lost) == 1 else 'are'} never seen"
            if left == 1
            else (f"the last {left} {words} are never seen")
        )
    parts = [f"{left} {name}{'s' * (left > 1)}" for left, name in lost]
    return f"the last {listed(parts)} are never seen"


def _skipped(ledger: Ledger, rows: Sequence[Row]) -> Iterator[Finding]:
    """One remark for layers beside which another sees the same map whole, one for those that alone see theirs."""
    companions = {row.name: _companion(ledger, row) for row in rows}
    for beside in (False, True):
        group = [row for row in rows if (companions[row.name] is not None) == beside]
        if not group:
            continue
        row = group[0]
        window = next(w for w, left in zip(windows_of(row), row.leftover, strict=True) if left)
        share = 1 - math.prod(
            (side - left) / side for side, left in zip(row.in_shape[1:], row.leftover, strict=True) if side
        )
        each = f"{window.described()}: windows stand apart, and {share:.0%} of the map's positions are in none"
        why = (
            f"Usually harmless: {companions[row.name]} has the same input and sees them."
            if beside
            else "What lies there reaches nothing behind this layer, and costs what computed it."
        )
        remedy = f"A kernel of at least {window.stride}, or avgpool({window.stride}) before and stride 1."
        yield Finding(
            "account.skipped",
            "note" if beside else "warning",
            listed([r.name for r in group]),
            each,
            "every position in some window",
            why,
            remedy,
        )


def _companion(ledger: Ledger, row: Row) -> str | None:
    """Another layer with windows, in the same block, that has an input of the same shape and covers it."""
    for depth in (1, 2):
        path = row.name.rsplit(".", depth)[0] if row.name.count(".") >= depth else None
        for other in ledger.rows if path else ():
            inside = other.name.startswith(f"{path}.") and other is not row and other.executed
            if inside and other.in_shape == row.in_shape and windows_of(other) and not any(other.leftover):
                return other.name
    return None


def _half_pixel(ledger: Ledger) -> Iterator[Finding]:
    """Kernels without a middle that keep the size: one side gets more padding than the other."""
    rows = [
        row
        for row in ledger.rows
        if row.executed
        and row.in_shape[1:] == row.out_shape[1:]
        and any(w.stride == 1 and w.span % 2 == 0 and w.size > 1 for w in windows_of(row))
    ]
    if not rows:
        return
    kernel = show_sizes([w.kernel for w in windows_of(rows[0])])
    total = f", {len(rows) / 2:g} in all" if len(rows) > 1 else ""
    yield Finding(
        "account.half-pixel",
        "note",
        listed([row.name for row in rows]),
        f"an even kernel ({kernel}) that keeps the map's size shifts it by half a pixel{total}",
        "odd kernels, which have a middle",
        "One more position is padded on one side than on the other, so what is found lies beside where it was.",
        f"An odd kernel, for example {rows[0].settings['kernel'][0] + 1}.",
    )


def _single_position(ledger: Ledger) -> Iterator[Finding]:
    """Kernels on a map of one position: all taps but one read padding."""
    rows = [
        row
        for row in ledger.rows
        if row.executed
        and row.macs
        and windows_of(row)
        and all(w.size == 1 for w in windows_of(row))
        and any(w.kernel > 1 for w in windows_of(row))
    ]
    if not rows:
        return
    kernel = rows[0].settings["kernel"]
    taps = math.prod(kernel)
    weights = sum(row.params - bool(row.settings.get("bias")) * row.out_shape[0] for row in rows)
    idle = weights * (taps - 1) // taps
    before = ledger.rows[max(0, ledger.rows.index(rows[0]) - 1)].name
    yield Finding(
        "account.single-position",
        "warning",
        listed([row.name for row in rows]),
        f"kernel {show_sizes(kernel)} on a map of {show_shape(rows[0].in_shape[1:])}, so small since {before}: "
        f"{taps - 1} of {taps} weights only ever meet padding, {idle:,} in all",
        "a map larger than one position",
        "Beside the middle there is nothing to see, so these weights neither help nor learn.",
        f"A larger input, fewer strides and pools before, or kernel 1 ({several(len(rows), 'layer')}).",
    )


def _decimal(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
