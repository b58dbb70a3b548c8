"""Copies within a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from striate.data.audit.evidence import Evidence, keep_together
from striate.data.audit.marked import GRAVE, Marked, some
from striate.records import Finding, Severity


def find_duplicates(evidence: Evidence) -> Marked | None:
    """`data.duplicates`: samples that are byte for byte another one of their split."""
    groups = _within(evidence, evidence.equal)
    extra = sum(len(group) - 1 for group in groups)
    return _told(evidence, "data.duplicates", groups, extra, "byte for byte", " = ")


def find_near_duplicates(evidence: Evidence) -> Marked | None:
    """`data.near-duplicates`: images that show nearly the same as another one of their split, and are not equal."""
    contents = evidence.scan.contents
    groups, extra = [], 0
    for group in _within(evidence, evidence.alike):
        distinct = len({contents[number] for number in group})
        if distinct > 1:
            groups.append(tuple({contents[number]: number for number in reversed(group)}.values())[::-1])
            extra += distinct - 1
    found = _told(evidence, "data.near-duplicates", groups, extra, "nearly", " ≈ ")
    return None if found is None else replace(found, together=keep_together(evidence, evidence.alike))


def _within(evidence: Evidence, groups: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """What of the groups lies in one split and has one label, two or more samples each."""
    parts = []
    for group in groups:
        homes: dict[tuple[str, object], list[int]] = {}
        for number in group:
            homes.setdefault((evidence.splits[number], _label(evidence, number)), []).append(number)
        parts += [tuple(part) for part in homes.values() if len(part) > 1]
    return parts


def _label(evidence: Evidence, number: int) -> object:
    # Numbers and masks of copies may differ a little.
    return evidence.scan.answers[number] if evidence.listing.annotation == "class" else None


def _told(
    evidence: Evidence, code: str, groups: Sequence[tuple[int, ...]], extra: int, how: str, sign: str
) -> Marked | None:
    if not groups:
        return None
    total = len(evidence.splits)
    # Rows of a table of few values may well be equal.
    many = extra >= GRAVE * total and evidence.listing.medium.pictures
    severity: Severity = "warning" if many else "note"
    named = [sign.join(evidence.named(number) for number in group[:2]) for group in groups]
    finding = Finding(
        code,
        severity,
        evidence.listing.source,
        f"{extra:,} of {total:,} are {how} the same as another of their split: {some(named)}",
        f"a warning from {GRAVE:.0%} of the images",
        "Copies count twice, in training and in what is measured.",
        "Keep one of each, where they are not meant to weigh more.",
    )
    return Marked(finding, tuple(groups), {n: evidence.listing.labels[n] for group in groups for n in group})
