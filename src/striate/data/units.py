"""What must stay together when data are split: equal contents, and the samples of one group."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def find_units(contents: Sequence[bytes], groups: Sequence[str | None]) -> list[bytes]:
    """A key for each sample; samples with equal keys belong into one split.

    `contents` are digests, equal for equal bytes; `groups` names what the samples are of (a patient, a day), None or ""
    where nothing is known, and is empty where there are no groups. Groups that share a content become one unit. Without
    a group the key is the content itself, so that groups elsewhere change nothing here; a unit of groups is named by
    the first of them in order, so that further samples of a group change nothing either.
    """
    if not any(groups):
        return list(contents)
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
    """The groups, but those that lie in two of the `given` splits as a group for each: what is torn already can no more
    be kept together, and its samples in `train` are still to be cut from."""
    homes: dict[str, set[str]] = {}
    for group, split in zip(groups, given, strict=bool(groups)):
        if group and split:
            homes.setdefault(group, set()).add(split)
    torn = {group for group, splits in homes.items() if len(splits) > 1}
    pairs = zip(groups, given, strict=bool(groups))
    return [f"{group} in {split}" if group in torn and split else group for group, split in pairs]
