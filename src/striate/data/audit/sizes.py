"""Images that are far smaller or larger than the others."""

from __future__ import annotations

import numpy as np

from striate.data.audit.evidence import Evidence
from striate.data.audit.marked import Marked, alone, some
from striate.records import Finding
from striate.wording import several

_FACTOR = 4
"""So many times smaller or larger on both axes than the middle image; beyond it, what is seen is mostly resampling."""


def find_tiny_images(evidence: Evidence) -> Marked | None:
    """`data.tiny-images`: images a quarter as large as the middle one, or as the size that was asked for, or less."""
    if evidence.looks is None or not evidence.splits:
        return None
    sides, middle = _sides(evidence)
    usual = middle if evidence.config.size is None else float(np.sqrt(np.prod(evidence.config.size)))
    what = "the middle one" if evidence.config.size is None else "--size"
    ids = [i for i, side in zip(evidence.readable, sides, strict=True) if side * _FACTOR <= usual]
    return _told(evidence, "data.tiny-images", ids, f"a quarter of {what} or less", "They become a blur when enlarged.")


def find_huge_images(evidence: Evidence) -> Marked | None:
    """`data.huge-images`: images four times as large as the middle one or more."""
    if evidence.looks is None or not evidence.splits:
        return None
    sides, middle = _sides(evidence)
    ids = [i for i, side in zip(evidence.readable, sides, strict=True) if side >= _FACTOR * middle]
    why = "What they show becomes smaller than in the others, and each takes long to decode."
    return _told(evidence, "data.huge-images", ids, "four times the middle one or more", why)


def _sides(evidence: Evidence) -> tuple[np.ndarray, float]:
    """The root of height × width of each readable image, and the middle of them."""
    assert evidence.looks is not None
    sides = np.sqrt(evidence.looks.sizes[list(evidence.readable)].prod(axis=1))
    return sides, float(np.median(sides))


def _told(evidence: Evidence, code: str, ids: list[int], what: str, why: str) -> Marked | None:
    if not ids:
        return None
    assert evidence.looks is not None
    sizes = {i: "×".join(map(str, evidence.looks.sizes[i].tolist())) for i in ids}
    middle = "×".join(f"{side:g}" for side in np.median(evidence.looks.sizes[list(evidence.readable)], axis=0))
    finding = Finding(
        code,
        "warning",
        evidence.listing.source,
        f"{several(len(ids), 'image is', 'images are')} {what} in height and width (the middle: {middle}): "
        f"{some([f'{evidence.named(i)} ({sizes[i]})' for i in ids])}",
        f"a factor of {_FACTOR}",
        why,
        "Look at them: thumbnails and scans often come in by mistake.",
    )
    return Marked(finding, alone(ids), sizes)
