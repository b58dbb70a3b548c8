"""The same picture, or the same row of a table, with two labels: what `striate data check` says of it."""

from __future__ import annotations

from dataclasses import replace

from striate.data.audit.evidence import Evidence, leaving
from striate.data.audit.label_noise import find_label_noise
from striate.data.audit.marked import GRAVE, Marked, severity_of, some
from striate.records import Finding
from striate.wording import several


def find_contradictions(evidence: Evidence) -> Marked | None:
    """`data.label-noise`: samples with equal contents that have more than one label."""
    noise = find_label_noise(evidence.listing, evidence.scan, evidence.equal)
    if noise is None:
        return None
    severity = severity_of(len(noise.leave_out), len(evidence.splits))
    finding = replace(noise.finding, severity=severity, threshold=f"0; an error from {GRAVE:.0%} of the samples")
    finding = replace(finding, remedy=f"{finding.remedy}{leaving(evidence)}")
    return replace(noise, finding=finding)


def find_near_contradictions(evidence: Evidence) -> Marked | None:
    """`data.label-noise`: images that show nearly the same, and have more than one label."""
    if evidence.listing.annotation != "class":
        return None
    labels, contents = evidence.listing.labels, evidence.scan.contents
    torn = [
        group
        for group in evidence.alike
        if len({labels[n] for n in group}) > 1 and len({contents[n] for n in group}) > 1
    ]
    # What is identical with two labels is told already.
    torn = [group for group in torn if len(set({contents[n]: labels[n] for n in group}.values())) > 1]
    if not torn:
        return None
    named = []
    for group in torn:
        first = {labels[number]: number for number in reversed(group)}
        named.append(" ≈ ".join(f"{evidence.named(n)} ({labels[n]})" for n in sorted(first.values())))
    finding = Finding(
        "data.label-noise",
        "warning",
        evidence.listing.source,
        f"{several(len(torn), 'image occurs', 'images occur')} nearly the same with two labels: {some(named)}",
        "0 images",
        "At most one of the labels is right, where it is the same picture.",
        "Look at them (--sheet draws them), and keep the right one.",
    )
    return Marked(finding, tuple(torn), {number: labels[number] for group in torn for number in group})
