"""Masks of single objects that were probably drawn by mistake: in pieces, fragments, or below other objects."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from striate.data.audit.evidence import DataEvidence
from striate.data.audit.sample_finding import GRAVE, SampleFinding, one_group_each, some
from striate.data.box_records import ImageBoxes
from striate.data.mask_codes import decode
from striate.records import Finding
from striate.wording import percent, several

PIECE = 0.1
"""A part that does not touch the rest is a separate piece if it has at least this share of the object's pixels."""
FRAGMENT = 0.05
"""An object is a fragment if its area is below this share of the median area in its image, or at most three pixels."""
_FEWEST_PIXELS = 3
HIDDEN = 0.5
"""An object is usually a duplicate if smaller objects cover at least this share of its pixels."""


class _Faults(NamedTuple):
    """Places of faulty objects among the objects of one image."""

    pieces: tuple[int, ...]
    """Objects in several pieces."""
    fragments: tuple[int, ...]
    hidden: tuple[int, ...]
    """Objects that smaller objects cover."""


def find_object_faults(evidence: DataEvidence) -> tuple[SampleFinding, ...]:
    """`data.object-pieces`, `data.object-fragments` and `data.object-overlap`; nothing for data without masks of single
    objects."""
    boxes = evidence.listing.boxes
    faults = {number: _faults(boxes[number]) for number in evidence.readable if boxes and _masked(boxes[number])}
    total = sum(len(boxes[number].boxes) for number in faults)
    found = (
        _finding(
            evidence,
            {number: found.pieces for number, found in faults.items()},
            total,
            "object-pieces",
            f"in two or more pieces, each with at least {percent(PIECE, 0)} of its pixels",
            "Training treats two objects with one number as one object. A partly hidden object can have two pieces.",
            "Look at them, and give each object its own number.",
        ),
        _finding(
            evidence,
            {number: found.fragments for number, found in faults.items()},
            total,
            "object-fragments",
            f"smaller than {percent(FRAGMENT, 0)} of the median object of its image, or with at most {_FEWEST_PIXELS} "
            "pixels",
            "Each fragment counts as a whole object, in the loss and in every metric.",
            "Look at them: strokes beside an object belong to it, or to the background.",
        ),
        _finding(
            evidence,
            {number: found.hidden for number, found in faults.items()},
            total,
            "object-overlap",
            f"with at least {percent(HIDDEN, 0)} of their pixels in smaller objects too",
            "Training assigns such a pixel to the smaller object only, so little is left of an object drawn twice.",
            "Remove one of each pair, or cut the larger one.",
        ),
    )
    return tuple(mark for mark in found if mark is not None)


def _masked(boxed: ImageBoxes) -> bool:
    return boxed.size is not None and any(box.mask is not None for box in boxed.boxes)


def _faults(boxed: ImageBoxes) -> _Faults:
    assert boxed.size is not None
    masks = [(k, decode(box.mask, boxed.size)) for k, box in enumerate(boxed.boxes) if box.mask and not box.crowd]
    areas = {k: int(mask.sum()) for k, mask in masks}
    least = max(_FEWEST_PIXELS, FRAGMENT * float(np.median([area for area in areas.values() if area] or [0])))
    top = np.zeros(boxed.size, np.int32)
    pieces = []
    for k, mask in sorted(masks, key=lambda entry: -areas[entry[0]]):
        top[mask] = k + 1
        if _in_pieces(mask):
            pieces.append(k)
    seen = np.bincount(top.ravel(), minlength=len(boxed.boxes) + 1)
    hidden = [k for k, area in areas.items() if area and seen[k + 1] <= (1 - HIDDEN) * area]
    return _Faults(tuple(sorted(pieces)), tuple(k for k, area in areas.items() if area <= least), tuple(hidden))


def _in_pieces(mask: NDArray[np.bool_]) -> bool:
    at = ndimage.find_objects(mask.astype(np.uint8))
    if not at:
        return False
    labels, _ = ndimage.label(mask[at[0]], np.ones((3, 3)))
    parts = np.sort(np.bincount(labels.ravel())[1:])[::-1]
    return len(parts) > 1 and bool(parts[1] >= max(_FEWEST_PIXELS, PIECE * parts.sum()))


def _finding(
    evidence: DataEvidence,
    places: dict[int, tuple[int, ...]],
    total: int,
    code: str,
    what: str,
    why: str,
    remedy: str,
) -> SampleFinding | None:
    counts = Counter({number: len(found) for number, found in places.items() if found})
    count = counts.total()
    if not count:
        return None
    boxes = evidence.listing.boxes
    named = []
    for number in sorted(counts):
        for place in places[number]:
            box = boxes[number].boxes[place]
            at = ", ".join(f"{edge:g}" for edge in box.edges)
            file = boxes[number].file
            named.append(f"{file}, {box.line} ({at})" if file.endswith(".json") else f"{file}, value {box.line}")
    finding = Finding(
        code=f"data.{code}",
        severity="warning" if count >= GRAVE * total else "note",
        where=evidence.listing.source,
        measured=f"{count:,} of {several(total, 'object')} {what}: {some(named)}",
        threshold=f"0; a warning from {percent(GRAVE, 0)} of the objects",
        why=why,
        remedy=remedy,
    )
    return SampleFinding(
        finding, one_group_each(sorted(counts)), {n: several(count, "object") for n, count in counts.items()}
    )
