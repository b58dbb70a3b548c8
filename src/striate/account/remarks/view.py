"""Remarks on how much of the input a unit sees."""

from __future__ import annotations

from collections.abc import Iterator

from striate.account.ledger import Ledger, Row, last_map
from striate.records import Finding
from striate.wording import show_shape

_AVERAGES = ("gap", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d")
_PICTURE = 8
"""Positions. More channels than this are rare in a signal, fewer rows in a picture."""


def view_remarks(ledger: Ledger) -> Iterator[Finding]:
    """Whether the receptive field of the last map is larger than the input, or smaller; layers whose units see all
    of it; a picture that was read as a signal."""
    yield from _one_axis(ledger)
    yield from _whole_map(ledger)
    sides = ledger.input[1:]
    if not sides or len(ledger.receptive_field) != len(sides) or max(ledger.receptive_field) == 1:
        return
    if _last_map(ledger) is None:
        return  # a single position everywhere: there is no view to speak of
    if all(field < side for field, side in zip(ledger.receptive_field, sides, strict=True)):
        yield _smaller(ledger)
    elif any(field > side for field, side in zip(ledger.receptive_field, sides, strict=True)):
        yield from _larger(ledger)


def _one_axis(ledger: Ledger) -> Iterator[Finding]:
    """An input of two numbers that looks like a gray picture without its channel."""
    if len(ledger.input) == 2 and min(ledger.input) >= _PICTURE and max(ledger.input) <= 2 * min(ledger.input):
        channels, length = ledger.input
        yield Finding(
            "account.one-axis",
            "note",
            "the input",
            f"{show_shape(ledger.input)} was read as {channels} channels of {length} positions along one axis",
            "a signal, channels first",
            "A picture has two axes behind its channels.",
            f"A gray picture of this size is 1x{channels}x{length}.",
        )


def _whole_map(ledger: Ledger) -> Iterator[Finding]:
    """The first layer from which on every unit sees everything, though the map still has neighbors."""
    first = next((row for row in ledger.rows if row.sees_all), None)
    if first is not None:
        yield Finding(
            "account.whole-map",
            "note",
            f"from {first.name} on",
            f"every unit looks at the whole map, so that fields of {show_shape(first.receptive_field)} and more follow",
            "a part of the map",
            "A mean over all positions is in each of them, of a normalization, a gate or attention; what such a mean "
            "adds is the same everywhere.",
            "The fields of the layers before tell what is seen in detail.",
        )


def _smaller(ledger: Ledger) -> Finding:
    last, after = _last_map(ledger), _after_last_map(ledger)
    field, sides = show_shape(ledger.receptive_field), show_shape(ledger.input[1:])
    if after is None:
        why = "The answer at each place depends on no more than that."
    elif after.kind in _AVERAGES:
        why = f"{after.name} averages over the places, so how such parts lie to each other is lost."
    else:
        why = "An object larger than that is never seen whole by one unit; only the layers behind combine the parts."
    return Finding(
        "account.small-field",
        "note",
        last.name if last else "the last map",
        f"a unit of the last map sees {field} of {sides} input pixels",
        f"the input, {sides}",
        why,
        "More layers, pooling or dilation widen the view, if objects are larger.",
    )


def _larger(ledger: Ledger) -> Iterator[Finding]:
    sides = ledger.input[1:]
    rows = [row for row in ledger.rows if row.executed and len(row.receptive_field) == len(sides) and any(row.jump)]
    first = next(row for row in rows if any(f > s for f, s in zip(row.receptive_field, sides, strict=True)))
    if first.sees_all:
        return  # no window made it so large
    field = show_shape(ledger.receptive_field)
    measured = ledger.effective_receptive_field is not None
    yield Finding(
        "account.large-field",
        "note",
        f"from {first.name} on",
        f"receptive fields are larger than the input ({show_shape(sides)}); {field} at the last map",
        f"the input, {show_shape(sides)}",
        "A unit there can see the whole image, and padding beyond it. What it mostly looks at is much smaller.",
        f"{'' if measured else '--effective measures that. '}For small images, a network with fewer strides keeps more "
        "detail.",
    )


def _last_map(ledger: Ledger) -> Row | None:
    """The last layer whose map still has neighbors."""
    return last_map(ledger.rows, len(ledger.input) - 1)


def _after_last_map(ledger: Ledger) -> Row | None:
    last = _last_map(ledger)
    if last is None:
        return None
    index = ledger.rows.index(last)
    following = [row for row in ledger.rows[index + 1 :] if row.executed]
    return following[0] if following else None
