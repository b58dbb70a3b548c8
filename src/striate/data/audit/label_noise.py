"""The same picture, or the same row of a table, with two labels."""

from __future__ import annotations

from collections.abc import Iterable

from striate.data.audit.marked import Marked, some
from striate.data.listing import Listing
from striate.data.scan import Scan
from striate.records import Finding
from striate.wording import several


def find_label_noise(listing: Listing, scan: Scan, groups: Iterable[tuple[int, ...]]) -> Marked | None:
    """`data.label-noise`: which of the `groups` of identical samples have more than one label."""
    torn = [group for group in groups if len({scan.answers[number] for number in group}) > 1]
    if not torn:
        return None
    named = []
    for group in torn:
        first = {scan.answers[number]: number for number in reversed(group)}
        named.append(" = ".join(sorted(f"{listing.paths[n]} ({listing.labels[n]})" for n in first.values())))
    finding = Finding(
        "data.label-noise",
        "warning",
        listing.source,
        f"{several(len(torn), 'image occurs', 'images occur')} with two labels: {some(named)}",
        "0 images",
        "At most one of the labels is right.",
        "Look at them, and keep the right one.",
    )
    ids = frozenset(number for group in torn for number in group)
    return Marked(finding, tuple(torn), {number: listing.labels[number] for number in ids}, ids)
