"""The same picture in two splits: byte for byte, re-encoded, resized or in gray."""

from __future__ import annotations

from collections import Counter

from striate.data.audit.evidence import Evidence, keep_together, leaving
from striate.data.audit.marked import GRAVE, Marked, some
from striate.records import Finding, Severity

ORDER = ("train", "val", "test")


def find_leaks(evidence: Evidence) -> Marked | None:
    """`data.leak`: samples of val and test that are in a split before it too."""
    torn = [group for group in evidence.alike if len({evidence.splits[number] for number in group}) > 1]
    if not torn:
        return None
    counts: Counter[str] = Counter()
    for group in torn:
        first = min(ORDER.index(evidence.splits[number]) for number in group)
        counts.update(evidence.splits[n] for n in group if ORDER.index(evidence.splits[n]) > first)
    totals = Counter(evidence.splits.values())
    severity: Severity = "error" if any(counts[name] >= GRAVE * totals[name] for name in counts) else "warning"
    affected = " and ".join(f"{counts[name]:,} of {totals[name]:,} in {name}" for name in ORDER if counts[name])
    finding = Finding(
        "data.leak",
        severity,
        evidence.listing.source,
        f"{affected} are in another split too: {some([_pair(evidence, group) for group in torn])}",
        f"0; an error from {GRAVE:.0%} of a split",
        "What was trained on is recognized, not understood: such a split measures too well.",
        "Remove each of them from all splits but one, or keep them together in a group." + leaving(evidence),
    )
    words = {number: evidence.splits[number] for group in torn for number in group}
    return Marked(finding, tuple(torn), words, _mended(evidence, torn), keep_together(evidence, evidence.alike))


def _mended(evidence: Evidence, torn: list[tuple[int, ...]]) -> frozenset[int]:
    """The copies in all given splits but the last that has one."""
    given = evidence.listing.given
    left: set[int] = set()
    for group in torn:
        named = {split for number in group if (split := given[number]) is not None}
        if len(named) > 1:
            last = max(named, key=ORDER.index)
            left.update(number for number in group if given[number] != last)
    return frozenset(left)


def _pair(evidence: Evidence, group: tuple[int, ...]) -> str:
    """One sample of each split, with = between identical ones and ≈ between those that are nearly the same."""
    first = {evidence.splits[number]: number for number in reversed(group)}
    shown = [(name, first[name]) for name in reversed(ORDER) if name in first]
    equal = len({evidence.scan.contents[number] for _, number in shown}) == 1
    paths = [(name, evidence.named(number)) for name, number in shown]
    return (" = " if equal else " ≈ ").join(
        path if path.startswith(f"{name}/") else f"{path} ({name})" for name, path in paths
    )
