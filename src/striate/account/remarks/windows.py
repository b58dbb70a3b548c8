"""Remarks on windows and their maps (positions that no window covers, even kernels, maps of a single position), and on
receptive fields."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from striate.account.ledger import Ledger, Row, Shape, last_map
from striate.account.remarks.window_arithmetic import arithmetic, described, ways_out, windows_of
from striate.layers.axis_windows import AxisWindows
from striate.records import Finding
from striate.wording import listed, percent, several, show_shape, show_sizes

_AXES = {1: ("position",), 2: ("row", "column"), 3: ("slice", "row", "column")}


def window_remarks(ledger: Ledger) -> Iterator[Finding]:
    """Remarks on windows that do not fit or skip positions, kernels that shift by half a pixel, kernels on a single
    position."""
    missing = [row for row in ledger.rows if any(row.leftover) and windows_of(row)]
    # Windows with gaps leave out positions between them; all others only at the end.
    yield from _left_over([row for row in missing if not _apart(row)])
    yield from _skipped(ledger, [row for row in missing if _apart(row)])
    yield from _half_pixel(ledger)
    yield from _single_position(ledger)


def _apart(row: Row) -> bool:
    """Whether positions are skipped between windows, not only at the end."""
    return any(map(_skips, windows_of(row)))


def _skips(window: AxisWindows) -> bool:
    """Whether a position that no window reads lies before the last position that is read."""
    beyond = window.uncovered()
    return bool(beyond) and beyond[0] < window.size - len(beyond)


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
            "every position in a window",
            "A window that does not fit is dropped, so the last rows or columns are ignored.",
            f"{f'For {row.name}: ' if others else ''}{ways}." if ways else "Use another kernel or a larger input.",
        )


def _ways(row: Row) -> str:
    """Remedies for windows that do not fit; each names its axis where the windows of the axes differ."""
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
    seen = "seen only in padding that copies it" if "padding_mode" in row.settings else "never seen"
    if all(left == 1 for left, _ in lost):
        return f"the last {listed([name for _, name in lost])} {'is' if len(lost) == 1 else 'are'} {seen}"
    return f"the last {listed([several(left, name) for left, name in lost])} are {seen}"


def _skipped(ledger: Ledger, rows: Sequence[Row]) -> Iterator[Finding]:
    """One remark for layers that skip positions which another layer reads from the same map, one for all others."""
    companions = {row.name: _companion(ledger, row) for row in rows}
    for beside in (False, True):
        group = [row for row in rows if (companions[row.name] is not None) == beside]
        if not group:
            continue
        row = group[0]
        window = next(filter(_skips, windows_of(row)))
        share = 1 - math.prod(
            (side - left) / side for side, left in zip(row.in_shape[1:], row.leftover, strict=True) if side
        )
        each = (
            f"kernel {window.kernel} with stride {window.stride}"
            + (
                f" and dilation {window.dilation}: "
                if window.dilation > 1
                else ": there are gaps between windows, and "
            )
            + f"no window reads {percent(share, 0)} of the positions"
        )
        why = (
            f"Usually harmless: {companions[row.name]} has the same input and reads them."
            if beside
            else "These positions are read only where the padding copies them."
            if any("padding_mode" in r.settings for r in group)
            else "These positions reach no later layer, though computing them takes time."
        )
        remedy = _nearer(window)
        yield Finding(
            "account.skipped",
            "note" if beside else "warning",
            listed([r.name for r in group]),
            each,
            "every position in a window",
            why,
            remedy,
        )


def _nearer(window: AxisWindows) -> str:
    """The remedy that closes the gaps: for dilated windows, the largest dilation or stride without gaps."""
    if window.dilation == 1:
        return f"Use a kernel of at least {window.stride}, or avgpool({window.stride}) before it and stride 1."
    ways = (
        [(f"dilation {d}", replace(window, dilation=d)) for d in range(window.dilation - 1, 0, -1)],
        [(f"stride {s}", replace(window, stride=s)) for s in range(window.stride - 1, 0, -1)],
    )
    found = [next((name for name, other in tries if other.count and not _skips(other)), None) for tries in ways]
    return f"{' or '.join(filter(None, found)).capitalize() or 'Another kernel or a larger input'}."


def _companion(ledger: Ledger, row: Row) -> str | None:
    """Another layer in the same block with windows that cover an input of the same shape; None if there is none."""
    for depth in (1, 2):
        path = row.name.rsplit(".", depth)[0] if row.name.count(".") >= depth else None
        for other in ledger.rows if path else ():
            inside = other.name.startswith(f"{path}.") and other is not row and other.executed
            if inside and other.in_shape == row.in_shape and windows_of(other) and not any(other.leftover):
                return other.name
    return None


def _half_pixel(ledger: Ledger) -> Iterator[Finding]:
    """Even kernels that keep the size: one side gets more padding than the other."""
    rows = []
    before: Row | None = None
    for row in (row for row in ledger.rows if row.executed):
        # Padding may be a separate layer.
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
    total = f", {len(rows) / 2:g} in total" if len(rows) > 1 else ""
    yield Finding(
        "account.half-pixel",
        "note",
        listed([row.name for row in rows]),
        f"an even kernel ({kernel}) that keeps the map's size shifts it by half a pixel{total}",
        "odd kernels, which have a center",
        "One side gets one more position of padding than the other, so features shift relative to the input.",
        f"Use an odd kernel, for example {rows[0].settings['kernel'][0] + 1}.",
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
        f"kernel {show_sizes(kernel)} on a map of {show_shape(rows[0].in_shape[1:])}, this small since {before}: "
        f"{taps - 1} of {several(taps, 'weight')} only read padding, {idle:,} in total",
        "a map larger than one position",
        "Only the center of the kernel reads the map, so the other weights neither help nor learn.",
        f"Use a larger input, fewer strides and pools before, or kernel 1 ({several(len(rows), 'layer')}).",
    )


_SIDES_OF = ("depth", "height", "width")
_AVERAGES = ("gap", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d")
_PICTURE = 8
"""More channels than this are rare in a signal; fewer rows than this are rare in a picture."""


def view_remarks(ledger: Ledger) -> Iterator[Finding]:
    """Remarks on a receptive field of the last map that is larger or smaller than the input, layers whose units depend
    on the whole map, and a picture that was read as a signal."""
    yield from one_axis(ledger.input)
    yield from _whole_map(ledger)
    sides = ledger.input[1:]
    if not sides or len(ledger.receptive_field) != len(sides) or max(ledger.receptive_field) == 1:
        return
    if _last_map(ledger) is None:
        return  # all maps have a single position, so there is no receptive field to compare
    if all(field < side for field, side in zip(ledger.receptive_field, sides, strict=True)):
        yield _smaller(ledger)
    elif any(field > side for field, side in zip(ledger.receptive_field, sides, strict=True)):
        yield from _larger(ledger)


def one_axis(shape: Shape) -> Iterator[Finding]:
    """A remark on an input shape of two numbers that looks like a gray picture without its channel."""
    if len(shape) == 2 and min(shape) >= _PICTURE and max(shape) <= 2 * min(shape):
        channels, length = shape
        yield Finding(
            "account.one-axis",
            "note",
            "the input",
            f"{show_shape(shape)} was read as {several(channels, 'channel')} of {several(length, 'position')} "
            "along one axis",
            "a signal, channels first",
            "A picture has two axes after its channels.",
            f"A gray picture of this size is 1x{channels}x{length}.",
        )


def _whole_map(ledger: Ledger) -> Iterator[Finding]:
    """The first layer from which on every unit depends on the whole map, though the map has several positions."""
    first = next((row for row in ledger.rows if row.sees_all), None)
    if first is not None:
        yield Finding(
            "account.whole-map",
            "note",
            f"from {first.name} on",
            f"every unit depends on the whole map; fields of {show_shape(first.receptive_field)} and more follow",
            "a part of the map",
            "A normalization, a gate or attention puts a mean over all positions into each of them; its effect is the "
            "same everywhere.",
            "The receptive fields of earlier layers show what is seen in detail.",
        )
        return
    partly = next((row for row in ledger.rows if any(row.jump) and any(row.whole_axes)), None)
    if partly is not None:
        axes = partly.whole_axes
        names = [name for name, whole in zip(_SIDES_OF[-len(axes) :], axes, strict=True) if whole]
        yield Finding(
            "account.whole-map",
            "note",
            f"from {partly.name} on",
            f"every unit depends on the whole {' and '.join(names)} of the map; fields of "
            f"{show_shape(partly.receptive_field)} and more follow",
            "a part of the map",
            f"Each number along the {' and '.join(names)} is computed from all of them, as by a fully connected layer "
            "over one axis, so none has a position.",
            "The receptive fields of earlier layers show what is seen in detail.",
        )


def _is_larger(row: Row, sides: Sequence[int]) -> bool:
    """Whether the field is larger than the input along an axis where positions have different fields."""
    whole = (False,) * len(sides) if row.sees_all or not row.whole_axes else row.whole_axes
    return any(f > s and not w for f, s, w in zip(row.receptive_field, sides, whole, strict=True))


def _smaller(ledger: Ledger) -> Finding:
    last, after = _last_map(ledger), _after_last_map(ledger)
    field, sides = show_shape(ledger.receptive_field), show_shape(ledger.input[1:])
    if after is None:
        why = "Each output position depends only on these pixels."
    elif after.kind in _AVERAGES:
        why = f"{after.name} averages over positions, so the arrangement of such parts is lost."
    else:
        why = "No unit sees the whole of an object larger than that; only later layers combine its parts."
    joined = "the output" if after is None else "the last map"
    return Finding(
        "account.small-field",
        "note",
        last.name if last and last.receptive_field == ledger.receptive_field else joined,
        f"a unit of the last map sees {field} of {sides} input pixels",
        f"the input, {sides}",
        why,
        "If objects are larger, use more layers, pooling or dilation.",
    )


def _larger(ledger: Ledger) -> Iterator[Finding]:
    sides = ledger.input[1:]
    rows = [row for row in ledger.rows if row.executed and len(row.receptive_field) == len(sides) and any(row.jump)]
    first = next((row for row in rows if _is_larger(row, sides)), None)
    if first is None or first.sees_all:
        return  # no window made it so large
    field = show_shape(ledger.receptive_field)
    # A square field may be wider than the image and not as high.
    whole = [f >= s for f, s in zip(ledger.receptive_field, sides, strict=True)]
    axes = " and ".join(name for name, seen in zip(_SIDES_OF[-len(sides) :], whole, strict=True) if seen)
    the_input = f"the input ({show_shape(sides)})" if all(whole) else f"the {axes} of the input ({show_shape(sides)})"
    seen = "the whole image" if all(whole) else f"the whole {axes} of the image"
    measured = ledger.effective_receptive_field is not None
    yield Finding(
        "account.large-field",
        "note",
        f"from {first.name} on",
        f"receptive fields are larger than {the_input}; {field} at the last map",
        f"the input, {show_shape(sides)}",
        f"A unit there can see {seen}, and padding beyond it. It depends mostly on a much smaller center.",
        f"{'' if measured else '`--effective` (in Python `effective=True`) measures it. '}For small images, a "
        "network with fewer strides keeps more detail.",
    )


def _last_map(ledger: Ledger) -> Row | None:
    """The last layer whose map has more than one position."""
    return last_map(ledger.rows, len(ledger.input) - 1)


def _after_last_map(ledger: Ledger) -> Row | None:
    last = _last_map(ledger)
    if last is None:
        return None
    index = ledger.rows.index(last)
    following = [row for row in ledger.rows[index + 1 :] if row.executed]
    return following[0] if following else None
