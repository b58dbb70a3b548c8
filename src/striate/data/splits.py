"""The split of each sample of a listing, which depends only on the contents.

Per class, the distinct contents are ordered by a hash of content and seed; the first of them become `test`, the
next `val`, the rest `train`. So identical bytes are never in two of the splits made here, and adding an image moves
at most one other across each of the two boundaries of its class. Samples of one group stay together, too.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from striate.data.annotations.annotation_kinds import annotation_kind
from striate.data.config import DataConfig
from striate.data.listing import Listing
from striate.errors import ConfigError


def assign_splits(
    contents: Sequence[bytes],
    classes: Sequence[int],
    given: Sequence[str | None],
    *,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    fewest: int = 1,
) -> list[str]:
    """The split of each sample: the given one where there is one, else `train`, `val` or `test` by content.

    `contents`: keys of units that stay together, digests of samples or of groups. If the source gives no `val` or
    `test`, these are taken from `train` and the samples without a split, unless the fraction is 0. Fractions apply to
    the distinct keys of each class. A class with three or more keys gets at least one in each split, or `fewest` if it
    has three times as many. A key of several classes counts for the first of them. Raises ConfigError if the fractions
    leave nothing to train on.
    """
    present = {name for name in given if name is not None}
    fractions = {"test": test_fraction, "val": val_fraction}
    missing = [name for name in ("test", "val") if name not in present and fractions[name] > 0]
    if sum(fractions[name] for name in missing) >= 1:
        raise ConfigError(
            "data.val_fraction and data.test_fraction",
            f"{val_fraction:g} + {test_fraction:g}",
            "a sum below 1, so that some samples remain for training",
            "--data.val_fraction 0.1 --data.test_fraction 0.2",
        )
    # Contents of given val and test samples: an equal sample without a split goes to the same split.
    fixed = {c: g for c, g in zip(contents, given, strict=True) if g == "val"}
    fixed |= {c: g for c, g in zip(contents, given, strict=True) if g == "test"}
    home: dict[bytes, int] = {}
    for content, number, name in zip(contents, classes, given, strict=True):
        if name in (None, "train") and content not in fixed:
            home[content] = min(number, home.get(content, number))
    drawn = _draw(home, missing, fractions, seed, fewest)

    def split_of(content: bytes, name: str | None) -> str:
        if name in ("val", "test"):
            return name
        if content in fixed:
            return "train" if name == "train" else str(fixed[content])
        return drawn[content]

    return [split_of(content, name) for content, name in zip(contents, given, strict=True)]


def _draw(
    home: dict[bytes, int], missing: list[str], fractions: dict[str, float], seed: int, fewest: int
) -> dict[bytes, str]:
    by_class: dict[int, list[bytes]] = defaultdict(list)
    for content, number in home.items():
        by_class[number].append(content)
    key = str(seed).encode()
    drawn: dict[bytes, str] = {}
    for members in by_class.values():
        members.sort(key=lambda content: hashlib.blake2b(content, key=key, digest_size=16).digest())
        start = 0
        for place, name in enumerate(missing):
            # The other missing splits, and train, must still get at least one each.
            room = len(members) - start - fewest * (len(missing) - place)
            count = min(max(fewest, int(len(members) * fractions[name] + 0.5)), room)
            if room < 1 and place == 0 and len(members) == 2:
                count = 1  # two contents: one to train on, one to test on
            stop = start + max(0, count)
            drawn.update(dict.fromkeys(members[start:stop], name))
            start = stop
        drawn.update(dict.fromkeys(members[start:], "train"))
    return drawn


def find_units(contents: Sequence[bytes], groups: Sequence[str | None]) -> list[bytes]:
    """A key for each sample; samples with equal keys belong to one split.

    `contents`: digests, equal for equal bytes. `groups`: the group of each sample (a patient, a day), None or "" for no
    group; empty where there are no groups. Groups that share a content become one unit. The key of a sample without a
    group is its content, so that it does not depend on groups; the key of a unit is its first group in order, so that
    it does not depend on the number of samples.
    """
    if not any(groups):
        return list(contents)
    from scipy.sparse import coo_array  # takes a third of a second to load
    from scipy.sparse.csgraph import connected_components

    names = [f"group {name}".encode() if name else b"" for name in groups]
    nodes = {key: place for place, key in enumerate(dict.fromkeys([*contents, *filter(None, names)]))}
    edges = [(nodes[content], nodes[name or content]) for content, name in zip(contents, names, strict=True)]
    ends = np.array(edges).T
    links = coo_array((np.ones(len(edges), bool), (ends[0], ends[1])), shape=(len(nodes), len(nodes)))
    part = connected_components(links, directed=False)[1]
    keys: dict[int, bytes] = {}
    for name in sorted(set(filter(None, names))):
        keys.setdefault(int(part[nodes[name]]), hashlib.blake2b(name, digest_size=16).digest())
    return [keys.get(int(part[nodes[content]]), content) for content in contents]


def as_given(groups: Sequence[str | None], given: Sequence[str | None]) -> list[str | None]:
    """The groups, where a group that lies in two of the `given` splits becomes a group for each: it is divided already,
    and new splits may still take its samples in `train`."""
    homes: dict[str, set[str]] = {}
    for group, split in zip(groups, given, strict=bool(groups)):
        if group and split:
            homes.setdefault(group, set()).add(split)
    torn = {group for group, splits in homes.items() if len(splits) > 1}
    pairs = zip(groups, given, strict=bool(groups))
    return [f"{group} in {split}" if group in torn and split else group for group, split in pairs]


def assign_membership(
    listing: Listing, contents: Mapping[int, bytes], ids: Sequence[int], config: DataConfig
) -> tuple[dict[int, str], dict[int, bytes]]:
    """The split of each of the samples `ids`, and the key of its unit: samples with equal contents, or of one group.

    Raises ConfigError if the fractions leave nothing to train on.
    """
    digests, given = [contents[i] for i in ids], [listing.given[i] for i in ids]
    groups = [listing.groups[i] for i in ids] if listing.groups else []
    kind = annotation_kind(listing.annotation)
    if kind.open_classes:  # a class is a group, and groups that share a class become one
        classes = [listing.labels[i].encode() for i in ids]
        groups = [key.hex() for key in find_units(classes, as_given(groups, given))]
    names = assign_splits(
        find_units(digests, as_given(groups, given)),
        kind.split_strata(listing, ids),
        given,
        val_fraction=config.validation_share,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
        fewest=2 if kind.open_classes else 1,
    )
    units = find_units(digests, groups)
    return dict(zip(ids, names, strict=True)), dict(zip(ids, units, strict=True))
