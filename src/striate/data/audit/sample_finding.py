"""A finding, and the samples that it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from striate.records import Finding, Severity

GRAVE = 0.01
"""A defect that affects at least this share of the samples is an error: it changes an accuracy by a point."""


@dataclass(frozen=True)
class SampleFinding:
    """A finding, and the ids of the samples that it is about."""

    finding: Finding
    groups: tuple[tuple[int, ...], ...] = ()
    """The samples, in groups: copies of each other, or frames of one series. Most groups have one sample."""
    words: Mapping[int, str] = field(default_factory=dict)
    """What is wrong with each sample, in a few words."""
    leave_out: frozenset[int] = frozenset()
    """Samples whose removal fixes the finding. Empty where removing samples does not."""
    together: tuple[tuple[int, ...], ...] = ()
    """Groups of samples that have to be in the same split to fix the finding."""


def some(names: Sequence[str]) -> str:
    """The first five names, and how many there are beyond."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")


def severity_of(count: int, total: int) -> Severity:
    """`error` where at least the share `GRAVE` of the samples is affected, else `warning`."""
    return "error" if count >= GRAVE * total else "warning"


def one_group_each(ids: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """A group for each sample."""
    return tuple((number,) for number in ids)


def each_left_out(finding: Finding, ids: Sequence[int], words: str) -> SampleFinding:
    """A finding about each of these samples, fixed by leaving them out."""
    return SampleFinding(finding, one_group_each(ids), dict.fromkeys(ids, words), frozenset(ids))
