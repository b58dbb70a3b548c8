"""Groups (a patient, a day) that the given splits tear."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from striate.data.audit.marked import some
from striate.data.listing import Listing
from striate.records import Finding


def find_torn_groups(listing: Listing, unreadable: Collection[int]) -> Finding | None:
    """`data.group-leak`: which groups lie in two of the given splits."""
    homes: dict[str, set[str]] = defaultdict(set)
    for number, (group, split) in enumerate(zip(listing.groups, listing.given, strict=bool(listing.groups))):
        if group and split is not None and number not in unreadable:
            homes[group].add(split)
    torn = [f"{group} ({', '.join(sorted(splits))})" for group, splits in sorted(homes.items()) if len(splits) > 1]
    if not torn:
        return None
    return Finding(
        "data.group-leak",
        "warning",
        listing.source,
        f"{len(torn):,} of {len(homes):,} groups lie in two of the given splits: {some(torn)}",
        "0 groups",
        "What belongs to one group is alike: such a split measures too well.",
        "Give all samples of a group the same split, or none.",
    )
