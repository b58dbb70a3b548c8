"""Masks that do not fit their images, or have only one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.mask_pixels import MaskPixels
from striate.data.annotations.masks import (
    IGNORED,
    are_jpegs,
    background_and_objects,
    black_and_white,
    ignored_values,
    lossy_masks,
    may_number_objects,
    number_objects,
)
from striate.data.audit.classes import missing_class
from striate.data.audit.evidence import DataEvidence
from striate.data.audit.leaks import ORDER
from striate.data.audit.mask_statistics import MaskStatistics, measure_mask, neighbors_fit, turned_fit
from striate.data.audit.sample_finding import SampleFinding, each_left_out, one_group_each, severity_of, some
from striate.data.listing import Listing
from striate.data.media.image.pictures import open_picture
from striate.errors import DataError, pasted
from striate.records import Finding
from striate.wording import listed, several, several_of


def find_misfitting_masks(evidence: DataEvidence) -> SampleFinding | None:
    """`data.mask-size`: masks that are not as large as their images."""
    misfits = evidence.misfits
    if not misfits:
        return None
    finding = Finding(
        code="data.mask-size",
        severity="error",
        where=evidence.listing.source,
        measured=f"{several_of(len(misfits), len(evidence.splits), 'mask', 'differ')} in size from the image: "
        f"{some(list(misfits.values()))}",
        threshold="0 masks",
        why="Pixels of mask and image cannot be matched, so training refuses them.",
        remedy="Save each mask with the size of its image.",
    )
    return each_left_out(finding, sorted(misfits), "mask of another size")


def find_even_masks(evidence: DataEvidence) -> SampleFinding | None:
    """`data.constant-masks`: masks with one value; an error where all masks have the same value."""
    masks = evidence.mask_values
    if masks is None:
        return None
    every = set[int]().union(*masks.values())
    ignored = ignored_values(evidence.listing, every)
    ids = [i for i, values in sorted(masks.items()) if len(values - ignored) < 2]
    if not ids:
        return None
    beside = f" beside the ignored {listed(sorted(map(str, every & ignored)))}" if every & ignored else ""
    finding = Finding(
        code="data.constant-masks",
        severity="error" if len(every - ignored) < 2 else "note",
        where=evidence.listing.source,
        measured=f"{several_of(len(ids), len(evidence.splits), 'mask', 'have')} only one value{beside}: "
        f"{some([evidence.named(i) for i in ids])}",
        threshold="0 masks",
        why="An image of such a mask shows only one class, or the mask was never drawn.",
        remedy="Look at them.",
    )
    words = {i: f"only {', '.join(map(str, sorted(masks[i])))}" for i in ids}
    return SampleFinding(finding, one_group_each(ids), words)


def find_missing_mask_values(evidence: DataEvidence) -> SampleFinding | None:
    """`data.missing-class`: values of masks that do not occur in every split; `data.objects` where they are not
    classes."""
    masks = evidence.mask_values
    if not masks:
        return None
    found: dict[str, set[int]] = {}
    for number, split in evidence.splits.items():
        found.setdefault(split, set()).update(masks[number])
    if not evidence.listing.values and number_objects(list(masks.values())):
        return _numbered_objects(evidence, len(_values(evidence.listing, found)))
    return _missing_values(evidence.listing, found)


def _values(listing: Listing, found: Mapping[str, set[int]]) -> set[int]:
    """The values of classes: those that have names, else those `found` in any split."""
    occurring = set().union(*found.values())
    return set(listing.values or occurring) - ignored_values(listing, occurring)


def _missing_values(listing: Listing, found: Mapping[str, set[int]]) -> SampleFinding | None:
    """`data.missing-class` of the values `found` in each split."""
    listing = black_and_white(listing, set().union(*found.values()))
    values = _values(listing, found)
    names = dict(zip(listing.values, listing.classes, strict=True))
    lacking = {
        name: [names.get(value, str(value)) for value in sorted(values - found[name])]
        for name in ORDER
        if name in found
    }
    known = f"{several(len(values), 'value')} of masks"
    return missing_class(listing, known, lacking, "Add images with these classes, or move some from another split.")


BETWEEN, FEWEST_STEPS = 0.3, 20
"""A mask counts as interpolated if it has at least `FEWEST_STEPS` steps, and more than the share `BETWEEN` of them has
a value in between: at the border of two classes, a third class in between would be one pixel wide."""


def find_interpolated_masks(evidence: DataEvidence) -> SampleFinding | None:
    """`data.mask-interpolated`: masks whose borders have values between those of the two classes."""
    return _interpolated(evidence.listing, _mask_statistics(evidence))


def find_shifted_masks(evidence: DataEvidence) -> SampleFinding | None:
    """`data.mask-shifted`: masks whose borders fit the image before or after theirs better than their own."""
    return _shifted(evidence.listing, _mask_statistics(evidence))


def find_turned_masks(evidence: DataEvidence) -> SampleFinding | None:
    """`data.mask-turned`: masks that fit their images better when they are turned or mirrored."""
    return _turned(evidence.listing, _mask_statistics(evidence))


def _mask_statistics(evidence: DataEvidence) -> Mapping[int, MaskStatistics]:
    return {} if evidence.image_statistics is None else evidence.image_statistics.mask_statistics


MEASURED_MASKS = 64
"""So many masks, the first in the order of ids, are measured before every training."""


def find_in_masks(
    listing: Listing, ids: NDArray[np.int64], masks: MaskPixels, inputs: Any, split: Mapping[int, str]
) -> tuple[Finding, ...]:
    """Findings about decoded masks, in the order of `ids`, before every training: values that a `split` lacks; and,
    from some masks and their images (N, C, H, W), that masks were interpolated, turned, or belong to other images."""
    places = np.array([split.get(number, "") for number in ids.tolist()])
    found = {name: set(np.flatnonzero(masks.occurring[places == name].any(0)).tolist()) for name in set(split.values())}
    missing = _missing_values(listing, found)
    lacking = () if missing is None else (missing.finding,)
    if not listing.medium.pictures:
        return (*lacking, *_by_headers(listing, [int(number) for number in np.sort(ids)[:MEASURED_MASKS]]))
    order = [int(row) for row in np.argsort(ids) if listing.given[int(ids[row])] in (None, "train")][:MEASURED_MASKS]
    measured = {}
    for row in order:
        image = np.asarray(inputs[row])
        luma = image.mean(0).astype(np.uint8)
        measured[int(ids[row])] = measure_mask(masks.pixels[row], luma)
    values = [set(np.flatnonzero(row).tolist()) for row in masks.occurring]
    marked = (
        _shifted(listing, measured),
        _turned(listing, measured),
        _interpolated(listing, measured),
        _doubtful_objects(listing, values),
    )
    return (*lacking, *(mark.finding for mark in marked if mark is not None))


def _by_headers(listing: Listing, ids: Sequence[int]) -> tuple[Finding, ...]:
    if listing.read is None or listing.read_mask is None:
        return ()
    header, pairs = listing.medium.header, []
    for number in ids:
        path, mask = listing.paths[number], listing.labels[number]
        own, of_mask = (
            header(listing.read(number), path, max_pixels=0),
            header(listing.read_mask(number), mask, max_pixels=0),
        )
        pairs.append((path, own, mask, of_mask))
    return listing.medium.mask_findings(listing.source, pairs)


def _interpolated(listing: Listing, measured: Mapping[int, MaskStatistics]) -> SampleFinding | None:
    ids = [
        number
        for number, mask in sorted(measured.items())
        if mask.steps >= FEWEST_STEPS and mask.between > BETWEEN * mask.steps
    ]
    if not ids:
        return None
    finding = Finding(
        code="data.mask-interpolated",
        severity=severity_of(len(ids), len(measured)),
        where=listing.source,
        measured=f"{several_of(len(ids), len(measured), 'mask', 'have')} values between those of two classes along "
        f"their borders: {some([listing.paths[number] for number in ids])}",
        threshold="0 masks",
        why="The masks were resized or rotated with interpolation, which makes class 2 between class 1 and class 3.",
        remedy="Resample the original masks with nearest neighbors (Pillow: Resampling.NEAREST).",
    )
    return each_left_out(finding, ids, "interpolated mask")


def _shifted(listing: Listing, measured: Mapping[int, MaskStatistics]) -> SampleFinding | None:
    if are_jpegs(listing):
        return None
    rows: dict[str | None, list[int]] = {}
    for number in sorted(measured):
        rows.setdefault(listing.given[number], []).append(number)
    for split, ids in rows.items():
        for distance, lead in neighbors_fit([measured[number] for number in ids]).items():
            other = "next" if distance == 1 else "previous"
            finding = Finding(
                code="data.mask-shifted",
                severity="error",
                where=listing.source + (f", {split}" if split else ""),
                measured=f"the borders of masks correlate with the edges of the {other} image by {lead:.2f} more than"
                " with the edges of their own image",
                threshold="each mask fits its own image best",
                why="Each mask belongs to another image, so the network learns wrong labels.",
                remedy=f"Give each mask the name of the {other} image, in the order of the names.",
            )
            return SampleFinding(finding, one_group_each(ids))
    return None


def _turned(listing: Listing, measured: Mapping[int, MaskStatistics]) -> SampleFinding | None:
    found = turned_fit([measured[number] for number in sorted(measured)])
    if found is None or are_jpegs(listing):
        return None
    what, lead = found
    finding = Finding(
        code="data.mask-turned",
        severity="error",
        where=listing.source,
        measured=f"the borders of masks correlate with the edges of their images by {lead:.2f} more if {what}",
        threshold="masks fit best as they are",
        why="Images were rotated or mirrored without their masks, or masks without their images: pixels get wrong "
        "classes.",
        remedy="Rotate or mirror the masks back (numpy: mask.T, mask[:, ::-1], mask[::-1]), and look at some: striate "
        "data show.",
    )
    return SampleFinding(finding)


def find_unnamed_values(evidence: DataEvidence) -> SampleFinding | None:
    """`data.mask-values`: values that `classes.txt` does not name, or that are all larger by one than the named
    ones."""
    listing, masks = evidence.listing, evidence.mask_values
    if masks is None or not listing.values:
        return None
    known = {*listing.values, listing.ignore, IGNORED}
    ids = [number for number, values in sorted(masks.items()) if values - known]
    if not ids:
        return None
    occurring: set[int] = set().union(*masks.values())
    unnamed = sorted(occurring - known)
    by_one = unnamed == [max(listing.values) + 1] and min(listing.values) not in occurring
    void = len(unnamed) == 1 and 2 * len(ids) >= len(masks) and not by_one
    listed = ", ".join(map(str, unnamed[:5])) + (", …" if len(unnamed) > 5 else "")
    lossy = lossy_masks(listing, unnamed)
    finding = Finding(
        code="data.mask-values",
        severity="note" if void else "error",
        where=listing.source,
        measured=f"{several_of(len(ids), len(masks), 'mask', 'have')} values without a name: {listed}"
        + (f"; the first value, {min(listing.values)}, does not occur: all are larger by one" if by_one else ""),
        threshold=f"values {min(listing.values)} to {max(listing.values)}, as named",
        why="Each pixel would get the class after its own." if by_one else "The class of these pixels is unknown.",
        remedy=f"Begin each line of classes.txt with its value: `{unnamed[0]} {listing.classes[-1]}`."
        if by_one
        else f"{lossy[:1].upper()}{lossy[1:]}."
        if lossy
        else f"Training ignores these pixels (--data.ignore {unnamed[0]}). If they are a class, name it in classes.txt."
        if void
        else f"Name them in classes.txt, or correct the masks; --data.ignore {unnamed[0]} leaves them out of loss and"
        " metrics.",
    )
    return SampleFinding(finding, one_group_each(ids), dict.fromkeys(ids, f"value {listed}"))


def find_doubtful_objects(evidence: DataEvidence) -> SampleFinding | None:
    """`data.objects` as a note: values that are read as classes, and may number objects."""
    return _doubtful_objects(evidence.listing, list((evidence.mask_values or {}).values()))


def _doubtful_objects(listing: Listing, values: Sequence[AbstractSet[int]]) -> SampleFinding | None:
    unnamed = listing.classes == tuple(map(str, listing.values))
    if not unnamed or not values or not may_number_objects(values) or number_objects(values):
        return None
    return SampleFinding(
        Finding(
            code="data.objects",
            severity="note",
            where=listing.source,
            measured="each mask has the values 0, 1, 2 and so on, up to another number: they may number the objects",
            threshold="values that are classes",
            why="They are read as classes: pixels of one value are of one class in all images.",
            remedy="If they number the objects of each image: --task instances. If they are classes, name them in "
            "classes.txt.",
        )
    )


_LOOKED_AT, _MOST_COLORS, _MOST_PIXELS = 20, 256, 64_000_000


def refuse_unnamed_colors(listing: Listing) -> None:
    """Raise DataError if most masks, by some of them, are in colors without names, with the colors that occur."""
    if listing.read_mask is None or listing.colors or not listing.medium.pictures:
        return
    chosen = range(0, len(listing), -(-len(listing) // _LOOKED_AT))
    found = {number: colors for number in chosen if (colors := _colors_of(listing, number))}
    if 2 * len(found) <= len(chosen):
        return
    texts = [" ".join(map(str, color)) for color in sorted(set[tuple[int, ...]]().union(*found.values()))]
    where = Path(listing.source) / "colors.txt"
    remedy = f"put {where.name} there, with a line `r g b name` for each color"
    if len(texts) > _MOST_COLORS:
        remedy = "save the original masks as PNG: interpolation and lossy compression make more colors"
    elif where.parent.is_dir():
        lines = "".join(f"{text} class{number}\\n" for number, text in enumerate(texts))
        remedy = f"with the names of your classes: printf {pasted(lines)} > {pasted(where)}"
    raise DataError(
        f"data {listing.source}",
        f"masks in {several(len(texts), 'color')} without names, {listed(texts, 5)}: {listing.labels[min(found)]}",
        "colors.txt, with a line `r g b name` for each color; or masks whose values are classes",
        remedy,
    )


def _colors_of(listing: Listing, number: int) -> set[tuple[int, ...]]:
    """The colors (r, g, b) of a mask; empty for one that is gray or has a palette, and for one that cannot be read."""
    assert listing.read_mask is not None
    with suppress(OSError, DataError):
        with open_picture(listing.read_mask(number), listing.labels[number], _MOST_PIXELS) as image:
            if image.mode not in ("RGB", "RGBA"):
                return set()
            colors = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
        return set(map(tuple, colors.tolist())) if (colors != colors[:, :1]).any() else set()
    return set()


def _numbered_objects(evidence: DataEvidence, values: int) -> SampleFinding:
    """`data.objects`: values that are numbers of objects, not classes."""
    remedy = background_and_objects(evidence.listing)
    return SampleFinding(
        Finding(
            code="data.objects",
            severity="error",
            where=evidence.listing.source,
            measured=f"the masks have {values} values, each mask from 0 to another number: they number the objects",
            threshold="values that are classes",
            why="Object 3 of one image and object 3 of another are unrelated, so training refuses such masks.",
            remedy=f"{remedy[0].upper()}{remedy[1:]}",
        )
    )
