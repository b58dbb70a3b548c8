"""Which split each sample of a listing belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from striate.data.annotations.every import annotation_kind
from striate.data.config import DataConfig
from striate.data.listing import Listing
from striate.data.splits import assign_splits
from striate.data.units import as_given, find_units


def assign_membership(
    listing: Listing, contents: Mapping[int, bytes], kept: Sequence[int], config: DataConfig
) -> tuple[dict[int, str], dict[int, bytes]]:
    """The split of each sample in `kept`, and a key of what must stay together: equal contents, the samples of a group.

    Raises ConfigError where the fractions leave nothing to train on.
    """
    digests, given = [contents[i] for i in kept], [listing.given[i] for i in kept]
    groups = [listing.groups[i] for i in kept] if listing.groups else []
    names = assign_splits(
        find_units(digests, as_given(groups, given)),
        annotation_kind(listing.annotation).split_strata(listing, kept),
        given,
        val_fraction=config.validation_share,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
    )
    units = find_units(digests, groups)
    return dict(zip(kept, names, strict=True)), dict(zip(kept, units, strict=True))
