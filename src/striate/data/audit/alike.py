"""Groups of samples that are equal byte for byte, or show nearly the same picture: re-encoded, resized, in gray."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from striate.data.audit.crops import find_crops
from striate.data.audit.image_statistics import ImageStatistics
from striate.data.scan import Scan

NEAR = 0.05
"""Pictures whose descriptions are at most so far apart (0 to 2) count as the same: a correlation of 0.9988.
docs/data-check.md says what this misses and what it reports wrongly."""
_MEAN, _CONTRAST = 8.0, 0.1
"""Largest differences of the means (in levels) and of the contrasts (relative) of two copies of a picture."""
EVEN = 2.0
"""Images with a lower standard deviation (in levels) show nothing to compare."""
_NEIGHBORS = 12

Groups = tuple[tuple[int, ...], ...]


def near_duplicate_groups(statistics: ImageStatistics, equal: Groups, ids: Sequence[int]) -> Groups:
    """Groups of two or more of the samples `ids` that are `equal` or show nearly the same, in the order of their ids.

    A k-d tree finds the nearest neighbors of each description, in N log N time for N images of which few are near each
    other. Where a picture has more copies than neighbors are searched, the pairs of nearest copies still connect all.
    """
    firsts = {number: group[0] for group in equal for number in group}
    chosen = np.array([i for i in ids if firsts.get(i, i) == i and statistics.contrasts[i] >= EVEN], dtype=np.int64)
    edges = [(group[0], number) for group in equal for number in group[1:]]
    if len(chosen) > 1:
        edges += [(int(chosen[a]), int(chosen[b])) for a, b in _near_pairs(statistics, chosen)]
    return connected_groups(edges, len(statistics.means))


def join_parts(groups: Groups, statistics: ImageStatistics, labels: Sequence[str] | None) -> Groups:
    """The groups, joined with pictures that show a part or the mirror image of each other. Where there are `labels`,
    only pictures with equal labels are joined: a sign that points left is not a copy of a sign that points right."""
    ids = sorted(statistics.lumas)
    if len(ids) < 2:
        return groups
    pairs = [(ids[a], ids[b]) for a, b in find_crops(np.stack([statistics.lumas[number] for number in ids]))]
    edges = [(group[0], number) for group in groups for number in group[1:]]
    edges += [(a, b) for a, b in pairs if labels is None or labels[a] == labels[b]]
    return connected_groups(edges, len(statistics.means))


def _near_pairs(statistics: ImageStatistics, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    from scipy.spatial import cKDTree  # takes a quarter of a second to load

    points = statistics.descriptions[chosen]
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
    mean, contrast = statistics.means[chosen], statistics.contrasts[chosen]
    one, other = found.T
    brightness = np.abs(mean[one] - mean[other]) <= _MEAN
    strength = np.abs(np.log(contrast[one] / contrast[other])) <= _CONTRAST
    pairs: NDArray[np.int64] = found[brightness & strength]
    return pairs


def connected_groups(edges: list[tuple[int, int]], count: int) -> Groups:
    """The connected components of the graph of `edges` between `count` samples."""
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
