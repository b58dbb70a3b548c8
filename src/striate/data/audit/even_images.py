"""Images that show nothing: one even color."""

from __future__ import annotations

from striate.data.audit.alike import EVEN
from striate.data.audit.evidence import Evidence, leaving
from striate.data.audit.marked import GRAVE, Marked, alone, severity_of, some
from striate.records import Finding


def find_even_images(evidence: Evidence) -> Marked | None:
    """`data.constant-images`: images whose values vary by less than two levels, on 64 × 64 pixels at most."""
    looks = evidence.looks
    if looks is None:
        return None
    ids = [number for number in evidence.readable if looks.deviations[number] < EVEN]
    if not ids:
        return None
    total = len(evidence.splits)
    finding = Finding(
        "data.constant-images",
        severity_of(len(ids), total),
        evidence.listing.source,
        f"{len(ids):,} of {total:,} images are blank, of one even color: {some([evidence.named(i) for i in ids])}",
        f"a standard deviation of {EVEN:g} of 255 levels; an error from {GRAVE:.0%} of the images",
        "Nothing can be learned from them but that their label is likely.",
        f"Replace or remove them.{leaving(evidence)}",
    )
    return Marked(finding, alone(ids), dict.fromkeys(ids, "blank"), frozenset(ids))
