"""Files that cannot be read: damaged, cut off, empty, no pictures, too large."""

from __future__ import annotations

from collections.abc import Mapping

from striate.data.audit.marked import Marked, alone, some
from striate.data.listing import Listing
from striate.records import Finding


def find_unreadable(listing: Listing, unreadable: Mapping[int, str], total: int) -> Marked | None:
    """`data.unreadable`: which of `total` files cannot be read, and why."""
    if not unreadable:
        return None
    ids = sorted(unreadable)
    named = [f"{listing.paths[number]} ({unreadable[number]})" for number in ids]
    finding = Finding(
        "data.unreadable",
        "error",
        listing.source,
        f"{len(named):,} of {total:,} files cannot be read: {some(named)}",
        "0 files",
        "They are in no split; split.csv lists them as unreadable.",
        "Replace or remove them.",
    )
    return Marked(finding, alone(ids), dict(unreadable), frozenset(ids))
