"""A finding with the samples that it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from striate.records import Finding, Severity

GRAVE = 0.01
"""The share of samples from which a defect of single samples is an error: it moves an accuracy by a point."""


@dataclass(frozen=True)
class Marked:
    """A finding, and the samples that it is about by id.

    `groups`: samples of one group are copies of each other, or stand in one row; most groups have one sample. `words`
    say in short what a sample has. `leave_out` are the samples without which the finding would be gone, and `together`
    those that must come into the same split for that, a group each.
    """

    finding: Finding
    groups: tuple[tuple[int, ...], ...] = ()
    words: Mapping[int, str] = field(default_factory=dict)
    leave_out: frozenset[int] = frozenset()
    together: tuple[tuple[int, ...], ...] = ()


def some(names: Sequence[str]) -> str:
    """The first five names, and how many there are beyond."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")


def severity_of(count: int, total: int) -> Severity:
    """An error where the share of samples is grave, else a warning."""
    return "error" if count >= GRAVE * total else "warning"


def alone(ids: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """A group for each sample."""
    return tuple((number,) for number in ids)


def each_left_out(finding: Finding, ids: Sequence[int], words: str) -> Marked:
    """A finding about each of these samples, which would be gone without them."""
    return Marked(finding, alone(ids), dict.fromkeys(ids, words), frozenset(ids))
