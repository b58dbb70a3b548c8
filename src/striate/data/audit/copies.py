"""Copies of a sample within a split, and copies with different labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from striate.data.audit.evidence import DataEvidence, keep_together, leaving_out
from striate.data.audit.sample_finding import GRAVE, SampleFinding, severity_of, some
from striate.records import Finding, Severity
from striate.wording import percent, several, several_of


def find_duplicates(evidence: DataEvidence) -> SampleFinding | None:
    """`data.duplicates`: samples that are byte for byte equal to another sample of their split."""
    groups = _within(evidence, evidence.equal)
    extra = sum(len(group) - 1 for group in groups)
    return _finding(evidence, "data.duplicates", groups, extra, "identical to", " = ")


def find_near_duplicates(evidence: DataEvidence) -> SampleFinding | None:
    """`data.near-duplicates`: images that are not equal to another image of their split, but show nearly the same, a
    part of it, or its mirror image."""
    contents = evidence.scan.contents
    groups, extra = [], 0
    for group in _within(evidence, evidence.related):
        distinct = len({contents[number] for number in group})
        if distinct > 1:
            groups.append(tuple({contents[number]: number for number in reversed(group)}.values())[::-1])
            extra += distinct - 1
    found = _finding(evidence, "data.near-duplicates", groups, extra, "nearly the same as", " ≈ ")
    return None if found is None else replace(found, together=keep_together(evidence, evidence.related))


def _within(evidence: DataEvidence, groups: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The parts of the groups that lie in one split and have one label, with two or more samples each."""
    parts = []
    for group in groups:
        homes: dict[tuple[str, object], list[int]] = {}
        for number in group:
            homes.setdefault((evidence.splits[number], _label(evidence, number)), []).append(number)
        parts += [tuple(part) for part in homes.values() if len(part) > 1]
    return parts


def _label(evidence: DataEvidence, number: int) -> object:
    # Numbers and masks of copies may differ a little.
    return evidence.scan.labels[number] if evidence.listing.has_one_class_each else None


def _finding(
    evidence: DataEvidence, code: str, groups: Sequence[tuple[int, ...]], extra: int, how: str, sign: str
) -> SampleFinding | None:
    if not groups:
        return None
    total, medium = len(evidence.splits), evidence.listing.medium
    # Rows of a table whose columns have few values are often equal.
    many = extra >= GRAVE * total and medium.pictures
    severity: Severity = "warning" if many else "note"
    named = [sign.join(evidence.named(number) for number in group[:2]) for group in groups]
    finding = Finding(
        code=code,
        severity=severity,
        where=evidence.listing.source,
        measured=f"{several_of(extra, total, medium.one, f'are {how} another one in the same split', medium.many)}: "
        f"{some(named)}",
        threshold=f"a warning from {percent(GRAVE, 0)} of the {medium.many}",
        why="Copies count twice, in training and in the metrics.",
        remedy="Keep one of each, unless they are meant to have more weight.",
    )
    return SampleFinding(finding, tuple(groups), {n: evidence.listing.labels[n] for group in groups for n in group})


def find_label_noise(evidence: DataEvidence) -> SampleFinding | None:
    """`data.label-noise`: groups of identical samples that have more than one label."""
    listing, scan = evidence.listing, evidence.scan
    torn = [group for group in evidence.equal if len({scan.labels[number] for number in group}) > 1]
    if not torn:
        return None
    named = []
    for group in torn:
        first = {scan.labels[number]: number for number in reversed(group)}
        named.append(" = ".join(sorted(f"{listing.paths[n]} ({listing.labels[n]})" for n in first.values())))
    one, many = listing.medium.one, listing.medium.many
    finding = Finding(
        code="data.label-noise",
        severity="warning",
        where=listing.source,
        measured=f"{several(len(torn), f'{one} occurs', f'{many} occur')} with two labels: {some(named)}",
        threshold=f"0 {many}",
        why="At most one of the labels is right.",
        remedy="Look at them, and keep the correct label.",
    )
    ids = frozenset(number for group in torn for number in group)
    return SampleFinding(finding, tuple(torn), {number: listing.labels[number] for number in ids}, ids)


def find_contradictions(evidence: DataEvidence) -> SampleFinding | None:
    """`data.label-noise`: samples with equal contents that have more than one label."""
    noise = find_label_noise(evidence)
    if noise is None:
        return None
    severity = severity_of(len(noise.leave_out), len(evidence.splits))
    finding = replace(
        noise.finding, severity=severity, threshold=f"0; an error from {percent(GRAVE, 0)} of the samples"
    )
    remedy = leaving_out(evidence, finding.remedy, "leaves out all of them, since it cannot know which label is right")
    finding = replace(finding, remedy=remedy)
    return replace(noise, finding=finding)


def find_near_contradictions(evidence: DataEvidence) -> SampleFinding | None:
    """`data.label-noise`: images that show nearly the same, and have more than one label."""
    if not evidence.listing.has_one_class_each:
        return None
    labels, contents = evidence.listing.labels, evidence.scan.contents
    torn = [
        group
        for group in evidence.alike
        if len({labels[n] for n in group}) > 1 and len({contents[n] for n in group}) > 1
    ]
    # `find_contradictions` reports identical samples with two labels.
    torn = [group for group in torn if len(set({contents[n]: labels[n] for n in group}.values())) > 1]
    if not torn:
        return None
    named = []
    for group in torn:
        first = {labels[number]: number for number in reversed(group)}
        named.append(" ≈ ".join(f"{evidence.named(n)} ({labels[n]})" for n in sorted(first.values())))
    one, many = evidence.listing.medium.one, evidence.listing.medium.many
    finding = Finding(
        code="data.label-noise",
        severity="warning",
        where=evidence.listing.source,
        measured=f"{several(len(torn), f'{one} has', f'{many} have')} a near copy with another label: {some(named)}",
        threshold=f"0 {many}",
        why=f"If both show the same {one}, at most one of the labels is right.",
        remedy="Look at them (--sheet draws them), and keep the correct label.",
    )
    return SampleFinding(finding, tuple(torn), {number: labels[number] for group in torn for number in group})
