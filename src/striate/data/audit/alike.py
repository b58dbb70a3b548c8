"""Images that show nearly the same: the same picture re-encoded, resized, in gray.
Samples whose contents are equal byte for byte.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from striate.data.audit.crops import find_parts
from striate.data.audit.looks import Looks
from striate.data.scan import Scan

NEAR = 0.05
"""Largest distance of two descriptions (0 to 2) that are taken for the same picture: a correlation of 0.9988. See
docs/data-check.md for what it misses and what it takes wrongly."""
_MEAN, _CONTRAST = 8.0, 0.1
"""How much mean (in levels) and contrast (relative) of the same picture may differ."""
EVEN = 2.0
"""Images with a lower standard deviation (in levels) show nothing to compare."""
_NEIGHBORS = 12

Groups = tuple[tuple[int, ...], ...]


def find_alike(looks: Looks, equal: Groups, ids: Sequence[int]) -> Groups:
    """Groups of two or more of the samples `ids` that are `equal` or show nearly the same, in the order of their ids.

    A k-d tree finds the neighbors of each description: N log N for N images, where few are near. Of a picture with very
    many copies the nearest are joined, which join the others in turn.
    """
    firsts = {number: group[0] for group in equal for number in group}
    chosen = np.array([i for i in ids if firsts.get(i, i) == i and looks.contrasts[i] >= EVEN], dtype=np.int64)
    edges = [(group[0], number) for group in equal for number in group[1:]]
    if len(chosen) > 1:
        edges += [(int(chosen[a]), int(chosen[b])) for a, b in _near_pairs(looks, chosen)]
    return joined(edges, len(looks.means))


def with_parts(groups: Groups, looks: Looks, labels: Sequence[str] | None) -> Groups:
    """The groups joined with pictures that show a part, or the mirror image, of one another; of those with `labels`
    where these are equal, since a sign that points left is not one that points right."""
    ids = sorted(looks.lumas)
    if len(ids) < 2:
        return groups
    pairs = [(ids[a], ids[b]) for a, b in find_parts(np.stack([looks.lumas[number] for number in ids]))]
    edges = [(group[0], number) for group in groups for number in group[1:]]
    edges += [(a, b) for a, b in pairs if labels is None or labels[a] == labels[b]]
    return joined(edges, len(looks.means))


def _near_pairs(looks: Looks, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    from scipy.spatial import cKDTree  # takes a quarter of a second to load

    points = looks.descriptions[chosen]
    # Equal points would make a tree as deep as there are of them.
    distinct, home = np.unique(points, axis=0, return_inverse=True)
    home = home.reshape(-1)
    first = np.zeros(len(distinct), np.int64)
    first[home[::-1]] = np.arange(len(points))[::-1]
    equal = np.stack([first[home], np.arange(len(points))], axis=1)
    near = cKDTree(distinct).query(distinct, k=min(_NEIGHBORS, len(distinct)), distance_upper_bound=NEAR)[1]
    near = near.reshape(len(distinct), -1)
    a, column = np.nonzero(near < len(distinct))
    found = np.concatenate([equal, first[np.stack([a, near[a, column]], axis=1)]])
    found = found[found[:, 0] < found[:, 1]]
    mean, contrast = looks.means[chosen], looks.contrasts[chosen]
    one, other = found.T
    brightness = np.abs(mean[one] - mean[other]) <= _MEAN
    strength = np.abs(np.log(contrast[one] / contrast[other])) <= _CONTRAST
    pairs: NDArray[np.int64] = found[brightness & strength]
    return pairs


def joined(edges: list[tuple[int, int]], count: int) -> Groups:
    """Groups of what `edges` join, of `count` samples in all."""
    if not edges:
        return ()
    from scipy.sparse import coo_array  # takes a third of a second to load
    from scipy.sparse.csgraph import connected_components

    ends = np.array(edges).T
    links = coo_array((np.ones(len(edges), bool), (ends[0], ends[1])), shape=(count, count))
    part = connected_components(links, directed=False)[1]
    groups: dict[int, list[int]] = {}
    for number in np.unique(ends).tolist():
        groups.setdefault(int(part[number]), []).append(number)
    return tuple(tuple(group) for group in groups.values())


def equal_groups(scan: Scan, unreadable: Collection[int]) -> tuple[tuple[int, ...], ...]:
    """The readable samples whose contents are equal, two or more a group, in the order of their ids."""
    alike: dict[bytes, list[int]] = {}
    for number, content in scan.contents.items():
        if number not in unreadable:
            alike.setdefault(content, []).append(number)
    return tuple(tuple(group) for group in alike.values() if len(group) > 1)
