"""Remarks on windows and their maps: positions that none covers, even kernels, maps of a single position."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from striate.account.ledger import Ledger, Row
from striate.account.remarks.window_arithmetic import arithmetic, described, ways_out, windows_of
from striate.records import Finding
from striate.wording import listed, several, show_shape, show_sizes

_AXES = {1: ("position",), 2: ("row", "column"), 3: ("slice", "row", "column")}


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
    """One remark for all layers with the same windows."""
    by_windows: dict[str, list[Row]] = {}
    for row in rows:
        by_windows.setdefault(str([replace(window, size=0) for window in windows_of(row)]), []).append(row)
    for same in by_windows.values():
        row = same[0]
        windows = [window for window, left in zip(windows_of(row), row.leftover, strict=True) if left]
        sums = dict.fromkeys(f"{described(window)} does not fit: {arithmetic(window)}" for window in windows)
        ways = _ways(row)
        others = dict.fromkeys(
            arithmetic(w)
            for other in same[1:]
            for w, left in zip(windows_of(other), other.leftover, strict=True)
            if left and w not in windows
        )
        also = f"; likewise {listed(list(others))}" if others else ""
        yield Finding(
            "account.leftover",
            "warning",
            listed([row.name for row in same]),
            f"{'; '.join(sums)}; {_never_seen(row)}{also}",
            "every position in some window",
            "The part of a window that does not fit is dropped, and with it what lies at the far edge.",
            f"{f'For {row.name}: ' if others else ''}{ways}." if ways else "Another kernel, a larger input.",
        )


def _ways(row: Row) -> str:
    """Ways out of what does not fit, with the axis where another one has other windows."""
    windows = windows_of(row)
    if len(set(windows)) == 1:
        return "; ".join(ways_out(windows[0]))
    found = []
    for window, left, name in zip(windows, row.leftover, _AXES.get(len(windows), ()), strict=False):
        if left and (ways := ways_out(window)):
            found.append(f"{name}s: {'; '.join(ways)}")
    return "; ".join(found)


def _never_seen(row: Row) -> str:
    """`the last column is never seen`, `the last 2 rows and 1 column are never seen`."""
    names = _AXES.get(len(row.leftover), ("position",) * len(row.leftover))
    lost = [(left, name) for left, name in zip(row.leftover, names, strict=True) if left]
    seen = "seen only where padding copies it" if "padding_mode" in row.settings else "never seen"
    if all(left == 1 for left, _ in lost):
        return f"the last {listed([name for _, name in lost])} {'is' if len(lost) == 1 else 'are'} {seen}"
    return f"the last {listed([several(left, name) for left, name in lost])} are {seen}"


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
        each = (
            f"kernel {window.kernel} with stride {window.stride}: windows stand apart, and {100 * share:.0f} % of the "
            "positions are in none"
        )
        why = (
            f"Usually harmless: {companions[row.name]} has the same input and sees them."
            if beside
            else "What lies there is read only where the padding copies it."
            if any("padding_mode" in r.settings for r in group)
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
    rows = []
    before: Row | None = None
    for row in (row for row in ledger.rows if row.executed):
        # Padding may be a layer of its own.
        padded = before is not None and "pad" in before.kind.lower() and before.out_shape == row.in_shape
        sides = before.in_shape[1:] if padded and before is not None else row.in_shape[1:]
        even = any(
            w.stride == 1 and w.span % 2 == 0 and side > 1 for w, side in zip(windows_of(row), sides, strict=False)
        )
        if even and sides == row.out_shape[1:]:
            rows.append(row)
        before = row
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
