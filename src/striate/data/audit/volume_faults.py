"""Constant volumes, masks that lie elsewhere than their volumes, and volumes of several spacings."""

from __future__ import annotations

from striate.data.audit.evidence import DataEvidence, blank_samples
from striate.data.audit.sample_finding import SampleFinding
from striate.data.audit.volume_statistics import spacings
from striate.records import Finding
from striate.wording import several


def find_constant_volumes(evidence: DataEvidence) -> SampleFinding | None:
    """`data.constant-volumes`: volumes whose voxels all have one value."""
    ids = [] if evidence.volume_statistics is None else list(evidence.volume_statistics.constant)
    words = "one value everywhere"
    return blank_samples(evidence, "data.constant-volumes", ids, "volume", f"have {words}", "two values", words)


def find_misplaced_masks(evidence: DataEvidence) -> SampleFinding | None:
    """`data.mask-affine`: masks whose headers place them elsewhere than their volumes."""
    if evidence.volume_statistics is None:
        return None
    listing, headers = evidence.listing, evidence.scan.headers
    pairs = [
        (listing.paths[number], headers[number], listing.labels[number], header)
        for number, header in sorted(evidence.volume_statistics.mask_headers.items())
        if number in headers and number not in evidence.volume_statistics.misfits
    ]
    findings = listing.medium.mask_findings(listing.source, pairs)
    return SampleFinding(findings[0]) if findings else None


def find_mixed_spacing(evidence: DataEvidence) -> SampleFinding | None:
    """`data.mixed-spacing`: volumes whose voxels are not of one size."""
    if evidence.volume_statistics is None:
        return None
    counts = spacings(evidence.scan.headers)
    if len(counts) < 2:
        return None
    shown = ", ".join(f"{' × '.join(f'{step:g}' for step in steps)} mm ({n:,})" for steps, n in counts.most_common(4))
    rest = f" and {len(counts) - 4} more" if len(counts) > 4 else ""
    finding = Finding(
        code="data.mixed-spacing",
        severity="note",
        where=evidence.listing.source,
        measured=f"voxels of {several(len(counts), 'size')} (depth × height × width): {shown}{rest}",
        threshold="one spacing",
        why="All are resampled to the median of each axis; a class with another spacing can be recognized by its blur.",
        remedy="Choose another spacing with --data.spacing.",
    )
    return SampleFinding(finding)
