"""Files of a source that are not used."""

from __future__ import annotations

from striate.data.audit.marked import some
from striate.data.listing import Listing
from striate.records import Finding
from striate.wording import several


def find_ignored(listing: Listing) -> Finding | None:
    """`data.ignored`: files and arrays that are not used."""
    if not listing.ignored:
        return None
    return Finding(
        "data.ignored",
        "note",
        listing.source,
        f"{several(len(listing.ignored), 'file or array is', 'files or arrays are')} not used: {some(listing.ignored)}",
        "0",
        "They are hidden, no pictures, or lie where none are looked for.",
        "Remove them, or move pictures into the folder of their class.",
    )
