"""Masks that do not fit their images, or have one value only."""

from __future__ import annotations

from collections import Counter

from striate.data.annotations.masks import IGNORED, background_and_objects, number_objects
from striate.data.audit.classes import missing_class
from striate.data.audit.evidence import Evidence
from striate.data.audit.leaks import ORDER
from striate.data.audit.marked import Marked, alone, some
from striate.records import Finding
from striate.wording import several


def find_misfitting_masks(evidence: Evidence) -> Marked | None:
    """`data.mask-size`: masks that are not as large as their images."""
    if evidence.looks is None or not evidence.looks.misfits:
        return None
    misfits = evidence.looks.misfits
    finding = Finding(
        code="data.mask-size",
        severity="error",
        where=evidence.listing.source,
        measured=f"{len(misfits):,} of {several(len(evidence.splits), 'mask')} are not as large as their image: "
        f"{some(list(misfits.values()))}",
        threshold="0 masks",
        why="Which pixel of the mask belongs to which of the image is open: training refuses them.",
        remedy="Save each mask in the size of its image.",
    )
    return Marked(finding, alone(sorted(misfits)), dict.fromkeys(misfits, "mask of another size"), frozenset(misfits))


def find_even_masks(evidence: Evidence) -> Marked | None:
    """`data.constant-masks`: masks of one value; an error where all have the same."""
    if evidence.looks is None:
        return None
    ids = [i for i, values in sorted(evidence.looks.masks.items()) if len(values - {IGNORED}) < 2]
    if not ids:
        return None
    every = frozenset().union(*evidence.looks.masks.values()) - {IGNORED}
    finding = Finding(
        code="data.constant-masks",
        severity="error" if len(every) < 2 else "note",
        where=evidence.listing.source,
        measured=f"{len(ids):,} of {several(len(evidence.splits), 'mask')} have one value only: "
        f"{some([evidence.named(i) for i in ids])}",
        threshold="0 masks",
        why="They are of images that show one class, or were never drawn.",
        remedy="Look at them.",
    )
    words = {i: f"only {', '.join(map(str, sorted(evidence.looks.masks[i])))}" for i in ids}
    return Marked(finding, alone(ids), words)


def find_missing_mask_values(evidence: Evidence) -> Marked | None:
    """`data.missing-class`: values of masks that do not occur in every split; `data.objects` where they are no
    classes."""
    if evidence.looks is None or not evidence.looks.masks:
        return None
    found: dict[str, Counter[int]] = {}
    for number, split in evidence.splits.items():
        found.setdefault(split, Counter()).update(evidence.looks.masks[number])
    values = set().union(*found.values()) - {IGNORED}
    if number_objects(list(evidence.looks.masks.values())):
        return _numbered_objects(evidence, len(values))
    lacking = {name: [str(v) for v in sorted(values - set(found[name]))] for name in ORDER if name in found}
    known = f"{several(len(values), 'value')} of masks"
    return missing_class(evidence, known, lacking, "Add images with these classes, or move some from another split.")


def _numbered_objects(evidence: Evidence, values: int) -> Marked:
    """`data.objects`: values that number the objects of each image."""
    remedy = background_and_objects(evidence.listing)
    return Marked(
        Finding(
            code="data.objects",
            severity="error",
            where=evidence.listing.source,
            measured=f"{values} values of masks, in each from 0 to another number: they number the objects of an image",
            threshold="values that are classes",
            why="Object 3 of one image has nothing to do with object 3 of another: training refuses such masks.",
            remedy=f"{remedy[0].upper()}{remedy[1:]}",
        )
    )
