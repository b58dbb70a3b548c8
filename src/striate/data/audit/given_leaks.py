"""Identical samples in two of the splits that a source gives, or in training and elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from striate.data.audit.marked import some
from striate.data.listing import Listing
from striate.records import Finding


def find_given_leaks(listing: Listing, groups: Sequence[Sequence[int]]) -> Finding | None:
    """`data.leak`: which of the `groups` of identical samples lie in two of the given splits."""
    leaks = []
    for group in groups:
        first = {listing.given[number]: listing.paths[number] for number in reversed(group)}
        first.pop(None, None)
        if len(first) > 1:
            leaks.append(" = ".join(first[split] for split in sorted(first, key=str)))
    if not leaks:
        return None
    return Finding(
        "data.leak",
        "warning",
        listing.source,
        f"{len(leaks):,} images with identical content lie in two of the given splits: {some(leaks)}",
        "0 images",
        "What was trained on is recognized, not understood: such a split measures too well.",
        "Remove each of them from all splits but one.",
    )


def find_seen(listing: Listing, contents: Sequence[str], seen: Collection[str]) -> tuple[Finding, ...]:
    """A finding where samples, by the digests of their contents, are among those that a network was trained on."""
    count = sum(content in seen for content in contents)
    if not count:
        return ()
    return (
        Finding(
            "data.leak",
            "warning",
            listing.source,
            f"{count:,} of {len(contents):,} samples were in the training split of the network",
            "0 samples",
            "What was trained on is recognized, not understood: such data measure too well.",
            "Evaluate it on data that it was not trained on.",
        ),
    )
