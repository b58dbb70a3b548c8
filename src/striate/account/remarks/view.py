"""Remarks on how much of the input a unit sees."""

from __future__ import annotations

from collections.abc import Iterator

from striate.account.ledger import Ledger, Row
from striate.records import Finding
from striate.wording import show_shape

_AVERAGES = ("gap", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d")


def view_remarks(ledger: Ledger) -> Iterator[Finding]:
    """Whether the receptive field of the last map is larger than the input, or smaller."""
    sides = ledger.input[1:]
    if not sides or len(ledger.receptive_field) != len(sides) or max(ledger.receptive_field) == 1:
        return
    if _last_map(ledger) is None:
        return  # a single position everywhere: there is no view to speak of
    if all(field < side for field, side in zip(ledger.receptive_field, sides, strict=True)):
        yield _smaller(ledger)
    elif any(field > side for field, side in zip(ledger.receptive_field, sides, strict=True)):
        yield _larger(ledger)


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


def _larger(ledger: Ledger) -> Finding:
    sides = ledger.input[1:]
    rows = [row for row in ledger.rows if row.executed and len(row.receptive_field) == len(sides) and any(row.jump)]
    first = next(row for row in rows if any(f > s for f, s in zip(row.receptive_field, sides, strict=True)))
    field = show_shape(ledger.receptive_field)
    return Finding(
        "account.large-field",
        "note",
        f"from {first.name} on",
        f"receptive fields are larger than the input ({show_shape(sides)}); {field} at the last map",
        f"the input, {show_shape(sides)}",
        "A unit there can see the whole image, and padding beyond it. What it mostly looks at is much smaller.",
        "--effective measures that. For small images, a network with fewer strides keeps more detail.",
    )


def _last_map(ledger: Ledger) -> Row | None:
    """The last layer whose map still has neighbors."""
    rows = [row for row in ledger.rows if row.executed and any(row.jump)]
    return rows[-1] if rows else None


def _after_last_map(ledger: Ledger) -> Row | None:
    last = _last_map(ledger)
    if last is None:
        return None
    index = ledger.rows.index(last)
    following = [row for row in ledger.rows[index + 1 :] if row.executed]
    return following[0] if following else None
