"""Groups of samples, by class, brightness, size and column of the manifest, and slices: the metric of each group, and
whether it differs from that of all other samples by more than chance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.data.dataset import SampleFacts
from striate.data.listing import as_number
from striate.statistics.estimate import Estimate, share_of
from striate.statistics.intervals import hits_interval
from striate.statistics.part_of_groups import part_differs
from striate.tasks.assessment import Slice
from striate.wording import several

FEWEST = 20
"""Smaller splits have no groups."""
MOST_VALUES = 20
"""Largest number of values of a column that are groups, the most frequent ones; more distinct numbers are divided into
quarters."""
_SMALLEST = 5  # samples of a group


@dataclass(frozen=True, eq=False)
class Group:
    """The samples of a split that have the same value of one property."""

    by: str
    """The property."""
    name: str
    """Its value."""
    members: NDArray[np.bool_]
    """(N,) whether each sample of the split has it."""


def sample_groups(
    facts: SampleFacts,
    n: int,
    *,
    truth: NDArray[np.int64] | None = None,
    classes: Sequence[str] = (),
    brightness: NDArray[np.float32] | None = None,
) -> tuple[Group, ...]:
    """All groups of a split of `n` samples; none where the split is small.

    `truth` (N,) with `classes` gives groups by class, for at most 100 classes; `brightness` (N,) is from 0 to 255.
    """
    if n < FEWEST:
        return ()
    groups: list[Group] = []
    if truth is not None and len(classes) <= 100:
        groups += [Group("class", name, truth == k) for k, name in enumerate(classes)]
    if brightness is not None:
        groups += _quarters("brightness", brightness)
    if facts.sizes:
        groups += _by_size(facts.sizes)
    for name, texts in facts.columns.items():
        groups += _by_column(name, texts)
    return tuple(group for group in groups if _SMALLEST <= group.members.sum() < n)


def _by_size(sizes: Sequence[tuple[int, int]]) -> list[Group]:
    """Quarters by the square root of the number of pixels of the picture file."""
    sides = np.sqrt(np.prod(np.asarray(sizes, np.float64), 1))
    return _quarters("size", sides, unit=" px")


def _by_column(column: str, texts: Sequence[str]) -> list[Group]:
    """One group for each value; quarters where the values are many distinct numbers."""
    counts = Counter(texts)
    if len(counts) > MOST_VALUES:
        numbers = [number for text in texts if (number := as_number(text)) is not None]
        if len(numbers) == len(texts):
            return _quarters(column, numbers, "g")
    values = np.asarray(texts, dtype=object)
    commonest = sorted(text for text, _ in counts.most_common(MOST_VALUES))
    return [Group(column, text or "(empty)", values == text) for text in commonest]


def _quarters(by: str, values: ArrayLike, digits: str = ".0f", unit: str = "") -> list[Group]:
    """Groups of a quarter of the samples each; less even where many values are equal."""
    numbers = np.asarray(values, np.float64)
    edges = np.unique(np.quantile(numbers, [0, 0.25, 0.5, 0.75, 1]))
    if len(edges) < 2:
        return []
    places = np.searchsorted(edges[1:-1], numbers)
    found = []
    for place in np.unique(places):
        members = places == place
        low, high = (f"{end:{digits}}{unit}" for end in (numbers[members].min(), numbers[members].max()))
        found.append(Group(by, low if low == high else f"{low} to {high}", members))
    if len({group.name for group in found}) < len(found) and digits != _PRECISE:
        return _quarters(by, values, _PRECISE, unit)
    return found


_PRECISE = ".6g"
"""Format of the ends of quarters, where rounded ends would give two quarters the same name."""

LEVEL = 0.05


def slices_of_hits(
    groups: Sequence[Group], right: NDArray[np.bool_], drawn_with: Sequence[str] = ()
) -> tuple[Slice, ...]:
    """The accuracy of each slice, with Fisher's exact test against all other samples. `right`: (N,) whether predictions
    are correct. `drawn_with`: the group of each sample, for intervals and tests; empty where samples have none."""

    from scipy.stats import fisher_exact

    def measure(members: NDArray[np.bool_]) -> tuple[Estimate, float]:
        if any(drawn_with):
            inside = right[members]
            interval = hits_interval(inside, [drawn_with[k] for k in np.flatnonzero(members).tolist()])
            return Estimate(float(inside.mean()), interval), part_differs(right.astype(float), members, drawn_with)
        hits, n = int(right[members].sum()), int(members.sum())
        others, rest = int(right[~members].sum()), int((~members).sum())
        p = float(fisher_exact(np.array([[hits, n - hits], [others, rest - others]])).pvalue)
        return share_of(hits, n), p

    return judged_slices(groups, measure)


def judged_slices(
    groups: Sequence[Group], measure: Callable[[NDArray[np.bool_]], tuple[Estimate, float]]
) -> tuple[Slice, ...]:
    """The slices with the metric and the p-value that `measure` returns for each. At most 5 % of the slices that are
    marked as different are expected to be so by chance, however they overlap (Benjamini and Yekutieli 2001)."""
    measured = [measure(group.members) for group in groups]
    if not measured:
        return ()
    from scipy.stats import false_discovery_control

    corrected = false_discovery_control([min(1.0, p) for _, p in measured], method="by")
    return tuple(
        Slice(group.by, group.name, int(group.members.sum()), figure, p, bool(level < LEVEL))
        for group, (figure, p), level in zip(groups, measured, corrected, strict=True)
    )


def too_few(n: int) -> tuple[str, ...]:
    """A sentence on a split of `n` samples that is too small for intervals and slices; empty for larger splits."""
    if n >= FEWEST:
        return ()
    return (f"No intervals by bootstrap and no slices: {several(n, 'sample')}, fewer than {FEWEST}.",)
