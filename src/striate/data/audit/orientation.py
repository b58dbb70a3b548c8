"""Photographs that EXIF turns."""

from __future__ import annotations

from striate.data.audit.evidence import Evidence
from striate.data.audit.marked import Marked, alone, some
from striate.records import Finding


def find_turned(evidence: Evidence) -> Marked | None:
    """`data.exif-rotation`: pictures whose EXIF says that they have to be turned or mirrored."""
    if evidence.looks is None:
        return None
    ids = [i for i, file in sorted(evidence.looks.files.items()) if file.turned]
    if not ids:
        return None
    finding = Finding(
        "data.exif-rotation",
        "note",
        evidence.listing.source,
        f"{len(ids):,} of {len(evidence.splits):,} pictures are turned by their EXIF: "
        f"{some([evidence.named(i) for i in ids])}",
        "0 pictures",
        "They are turned here, in training and in predict; many other programs show and read them lying.",
        "Save them upright if other programs are to read them.",
    )
    return Marked(finding, alone(ids), dict.fromkeys(ids, "turned"))
