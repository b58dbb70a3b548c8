"""Boxes that do not fit their images, or that were written in another format than they are read in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from striate.data.audit.classes import missing_class
from striate.data.audit.evidence import DataEvidence
from striate.data.audit.leaks import ORDER
from striate.data.audit.sample_finding import GRAVE, SampleFinding, one_group_each, some
from striate.data.box_records import Box, Edges, ImageBoxes
from striate.data.listing import Listing
from striate.data.rotated_boxes import SEEN, common_area, corners, visible_shares
from striate.data.scan import plan_inputs
from striate.records import Finding, Severity
from striate.wording import percent, several, several_of

_BEYOND = 1.5
"""A box may leave its image by so many pixels: it was rounded, or pixels were counted from 1."""
_SAME = 0.95
"""Two boxes of a class with at least this IoU are duplicates."""
_MOSTLY = 0.3
"""Other formats are tried if at least this share of the boxes does not fit."""
_FITS = 0.95
"""A format that at least this share of the boxes fits in is reported as the one that was meant."""

_NO_SHARE = 3.0
"""An edge further out than so many times the width of the image is in pixels, even if the image was scaled since."""


class _Placed(NamedTuple):
    """A box in pixels, with the id and (height, width) of its image."""

    number: int
    box: Box
    size: tuple[int, int]
    boxed: ImageBoxes


def _placed(listing: Listing, sizes: Mapping[int, tuple[int, int]]) -> Iterator[_Placed]:
    for number, size in sizes.items():
        boxed = listing.boxes[number]
        for box in boxed.in_pixels(size).boxes:
            yield _Placed(number, box, size, boxed)


def find_box_faults(listing: Listing, sizes: Mapping[int, tuple[int, int]]) -> tuple[SampleFinding, ...]:
    """Findings about the numbers of boxes alone, of images with these (height, width) `sizes`, by id; none for data
    without boxes."""
    if not listing.boxes:
        return ()
    placed = list(_placed(listing, sizes))
    systematic = _misread(listing, placed)
    singles = (_flat(listing, placed), _outside(listing, placed)) if systematic is None else ()
    found = (systematic, *singles, _duplicates(listing, placed), _other_sizes(listing, sizes))
    return tuple(mark for mark in found if mark is not None)


def box_sizes(listing: Listing, headers: Mapping[int, object]) -> dict[int, tuple[int, int]]:
    """(height, width) of the readable images of data with boxes, by id."""
    if not listing.boxes:
        return {}
    return {n: size for n, header in headers.items() if (size := listing.medium.size_of(header)) is not None}


def _named(one: _Placed) -> str:
    left, top, right, bottom = (f"{edge:g}" for edge in one.box.edges)
    return f"{one.boxed.where(one.box)} ({one.box.label} {left}, {top}, {right}, {bottom})"


def _finding(
    listing: Listing, code: str, bad: Sequence[_Placed], total: int, what: str, why: str, remedy: str
) -> SampleFinding | None:
    if not bad:
        return None
    severity: Severity = "error" if len(bad) >= GRAVE * total else "warning"
    finding = Finding(
        code=code,
        severity=severity,
        where=listing.source,
        measured=f"{several_of(len(bad), total, 'box', what, 'boxes')}: {some([_named(one) for one in bad])}",
        threshold=f"0; an error from {percent(GRAVE, 0)} of the boxes",
        why=why,
        remedy=remedy,
    )
    ids = sorted({one.number for one in bad})
    counts = Counter(one.number for one in bad)
    return SampleFinding(
        finding, one_group_each(ids), {number: several(counts[number], "box", "boxes") for number in ids}
    )


def _flat(listing: Listing, placed: Sequence[_Placed]) -> SampleFinding | None:
    """`data.box-area`: boxes without an area."""
    bad = [one for one in placed if one.box.width <= 0 or one.box.height <= 0]
    why = "A box without width or height contains no object: training leaves it out."
    remedy = "Draw them again, or remove them."
    if exchanged := sum(min(one.box.width, one.box.height) < 0 for one in bad):
        why = (
            f"{exchanged:,} with exchanged corners: x_max below x_min, or y_max below y_min. Training leaves them out."
        )
        remedy = "Exchange the corners; draw other boxes without an area again, or remove them."
    return _finding(listing, "data.box-area", bad, len(placed), "have no area", why, remedy)


def _leaves(edges: Edges, size: tuple[int, int]) -> bool:
    left, top, right, bottom = edges
    height, width = size
    return min(left, top) < -_BEYOND or right > width + _BEYOND or bottom > height + _BEYOND


def _mostly_outside(one: _Placed) -> bool:
    """Whether training leaves a rotated box out."""
    boxes = np.array([[*one.box.edges, one.box.angle or 0.0]])
    return one.box.width > 0 < one.box.height and visible_shares(boxes, *one.size)[0] < SEEN


def _outside(listing: Listing, placed: Sequence[_Placed]) -> SampleFinding | None:
    """`data.box-range`: boxes that leave their image."""
    turned = [one for one in placed if one.box.angle is not None]
    bad = [one for one in placed if one.box.angle is None and _leaves(one.box.edges, one.size)]
    why = "Training clips them to the image, and leaves out boxes with less than a quarter of their area in it."
    if turned:
        bad = [one for one in turned if _mostly_outside(one)]
        why = "Training leaves out rotated boxes with less than half of their area in the image."
    remedy = "Compare the image with the annotated original: it may have been cropped, rotated or scaled since."
    return _finding(listing, "data.box-range", bad, len(placed), "leave the image", why, remedy)


def _iou(one: Box, other: Box) -> float:
    a, b = one.edges, other.edges
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(0.0, wide) * max(0.0, high)
    if one.angle or other.angle:
        common = common_area(*corners(np.array([[*a, one.angle or 0.0], [*b, other.angle or 0.0]])))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0


def _duplicates(listing: Listing, placed: Sequence[_Placed]) -> SampleFinding | None:
    """`data.box-double`: two boxes of one class around one object."""
    before: dict[tuple[int, str], list[_Placed]] = {}
    bad = []
    for one in placed:
        if one.box.width <= 0 or one.box.height <= 0 or one.box.crowd:
            continue
        others = before.setdefault((one.number, one.box.label), [])
        if any(_iou(one.box, other.box) >= _SAME for other in others):
            bad.append(one)
        others.append(one)
    why = (
        "A prediction matches only one of two boxes of an object. The other counts as missed, in the loss and metrics."
    )
    return _finding(listing, "data.box-double", bad, len(placed), "occur twice", why, "Remove one of each pair.")


def _other_sizes(listing: Listing, sizes: Mapping[int, tuple[int, int]]) -> SampleFinding | None:
    """`data.box-size`: images of another size than their annotations say."""
    bad = [n for n, size in sizes.items() if listing.boxes[n].size not in (None, size)]
    if not bad:
        return None

    def sizes_text(number: int) -> str:
        height, width = listing.boxes[number].size or (0, 0)
        return f"{listing.paths[number]} ({sizes[number][1]} × {sizes[number][0]}, annotated as {width} × {height})"

    turned = all(listing.boxes[n].size == sizes[n][::-1] for n in bad)
    why = "The images were rotated" if turned else "The images were scaled, cropped or exchanged"
    finding = Finding(
        code="data.box-size",
        severity="error" if len(bad) >= GRAVE * len(sizes) else "warning",
        where=listing.source,
        measured=f"{several_of(len(bad), len(sizes), 'image', 'differ')} in size from the annotations "
        f"(width × height): {some([sizes_text(n) for n in bad])}",
        threshold="images of the annotated size",
        why=f"{why} after their boxes were drawn, so the boxes are at wrong places.",
        remedy="Use the images that were annotated, or scale the boxes as the images were scaled.",
    )
    return SampleFinding(finding, one_group_each(bad), dict.fromkeys(bad, "another size"))


_Reading = tuple[str, str, Callable[[Edges, tuple[int, int]], Edges]]
_READINGS: tuple[_Reading, ...] = (
    (
        "fractions of width and height, not pixels",
        "multiply x by the width of the image and y by its height",
        lambda e, s: (e[0] * s[1], e[1] * s[0], e[2] * s[1], e[3] * s[0]),
    ),
    (
        "corner and size (x, y, width, height), not two corners",
        "write x + width and y + height in place of the second pair",
        lambda e, _: (e[0], e[1], e[0] + e[2], e[1] + e[3]),
    ),
    (
        "two corners, not corner and size (x, y, width, height)",
        "subtract the first pair from the second",
        lambda e, _: (e[0], e[1], e[2] - e[0], e[3] - e[1]),
    ),
    (
        "y before x",
        "exchange x and y",
        lambda e, _: (e[1], e[0], e[3], e[2]),
    ),
)


def _corners_of_center(edges: Edges, size: tuple[int, int]) -> Edges:
    """The edges of boxes whose two corners were read as center and size."""
    del size
    left, top, right, bottom = edges
    return ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)


def _by_size(edges: Edges, size: tuple[int, int]) -> Edges:
    """The edges of boxes whose pixels were read as fractions of width and height."""
    return (edges[0] / size[1], edges[1] / size[0], edges[2] / size[1], edges[3] / size[0])


_OF_SHARES: tuple[_Reading, ...] = (
    (
        "pixels, not fractions of width and height",
        "divide x by the width of the image and y by its height",
        _by_size,
    ),
    (
        "two corners, not center and size",
        "write the center, half of the sum of both pairs, and their difference",
        _corners_of_center,
    ),
    (
        "two corners in pixels, not center and size as fractions",
        "write the center, half of the sum of both pairs, and their difference, as fractions of the image",
        lambda e, s: _corners_of_center(_by_size(e, s), s),
    ),
    (
        "corner and size, not center and size",
        "add half of width and height to x and y",
        lambda e, _: ((e[0] + e[2]) / 2, (e[1] + e[3]) / 2, (3 * e[2] - e[0]) / 2, (3 * e[3] - e[1]) / 2),
    ),
)
"""Other formats of numbers that YOLO reads as center and size, in fractions of the image."""


def _misread(listing: Listing, placed: Sequence[_Placed]) -> SampleFinding | None:
    """`data.box-format`: many boxes do not fit their images, and nearly all do when they are read in another format."""
    if len(placed) < 5:
        return None
    shares = any(boxed.relative for boxed in listing.boxes)
    edges = [one.box.edges for one in placed]
    sizes = [one.size for one in placed]
    wrong = 1 - _fitting(edges, sizes)
    tiny = 0.0 if shares else float(np.mean([max(map(abs, e)) <= 1.0 for e in edges]))
    far = (
        float(np.mean([max(_by_size(e, s)) > _NO_SHARE for e, s in zip(edges, sizes, strict=True)])) if shares else 0.0
    )
    if wrong < _MOSTLY and tiny < _FITS:
        return None
    tried = [(one, _FITS) for one in (_OF_SHARES if shares else _READINGS)]
    if far >= _FITS:
        tried.append((_OF_SHARES[0], _MOSTLY))
    for (what, remedy, reading), enough in tried:
        if (what.startswith("fractions")) != (tiny >= _FITS):
            continue
        again = [reading(e, s) for e, s in zip(edges, sizes, strict=True)]
        if _fitting(again, sizes) >= enough:
            return SampleFinding(
                Finding(
                    code="data.box-format",
                    severity="error",
                    where=listing.source,
                    measured=f"{percent(max(wrong, tiny), 0)} of {several(len(placed), 'box', 'boxes')} do not fit "
                    f"their images; read as {what}, {percent(_fitting(again, sizes), 0)} would fit: "
                    f"{some([_named(one) for one in placed[:3]])}",
                    threshold="boxes within their images",
                    why="If boxes are read in another format than they were written in, they miss their objects.",
                    remedy=f"{remedy[0].upper()}{remedy[1:]}.",
                )
            )
    return None


def _fitting(edges: Sequence[Edges], sizes: Sequence[tuple[int, int]]) -> float:
    """The share of boxes that lie in their image, with width and height of at least a pixel."""
    fits = [
        e[2] - e[0] >= 1 and e[3] - e[1] >= 1 and not _leaves(e, size) for e, size in zip(edges, sizes, strict=True)
    ]
    return sum(fits) / max(1, len(fits))


def find_missing_box_classes(evidence: DataEvidence) -> SampleFinding | None:
    """`data.missing-class`: classes without an object in some split."""
    listing = evidence.listing
    if not listing.boxes:
        return None
    found: dict[str, Counter[str]] = {name: Counter() for name in ORDER if name in evidence.splits.values()}
    for number, split in evidence.splits.items():
        found[split].update(box.label for box in listing.boxes[number].boxes)
    lacking = {name: [c for c in listing.classes if not counts[c]] for name, counts in found.items()}
    known = several(len(listing.classes), "class", "classes")
    remedy = "Add images with these classes, or move some from another split."
    if all(listing.classes[0] in lacking[name] for name in lacking) and any(b.relative for b in listing.boxes):
        remedy += " No box has class number 0: if the numbers begin with 1, subtract 1 from all of them."
    return missing_class(listing, known, lacking, remedy)


TINY, TINY_SHARE = 4.0, 0.1
"""Pixels of the input between the finest positions of a detector; the share of smaller boxes that is reported."""


def find_tiny_boxes(evidence: DataEvidence) -> SampleFinding | None:
    """`data.box-tiny`: boxes that are smaller, in the input of the network, than the distance between its positions."""
    listing = evidence.listing
    sizes = box_sizes(listing, evidence.scan.headers)
    if not sizes or not evidence.splits:
        return None
    preparation = plan_inputs(listing, evidence.scan, evidence.config)[0]
    counts: Counter[int] = Counter()
    sides: list[float] = []
    for number, size in sizes.items():
        placed = listing.medium.placement(size, preparation)
        across, down = (1.0, 1.0) if placed is None else placed.scale
        for box in listing.boxes[number].in_pixels(size).boxes:
            if box.width > 0 and box.height > 0:
                sides.append((box.width * across * box.height * down) ** 0.5)
                counts[number] += sides[-1] < TINY
    tiny = sum(counts.values())
    if tiny < TINY_SHARE * len(sides) or not tiny:
        return None
    _, height, width = preparation.input_shape
    grown = TINY / float(np.quantile(sides, TINY_SHARE))
    larger = "x".join(str(round(side * grown / 32 + 0.49) * 32) for side in (height, width))
    finding = Finding(
        code="data.box-tiny",
        severity="warning",
        where=listing.source,
        measured=f"{several_of(tiny, len(sides), 'box', 'are', 'boxes')} smaller than {TINY:g} × {TINY:g} pixels in "
        f"inputs of {height} × {width}",
        threshold=f"{percent(TINY_SHARE, 0)} of the boxes",
        why="The finest grid of the detector has a stride of 4 pixels: it finds only one of two such adjacent objects.",
        remedy=f"Train on larger images: --size {larger}.",
    )
    ids = sorted(number for number, count in counts.items() if count)
    return SampleFinding(
        finding, one_group_each(ids), {number: f"{several(counts[number], 'tiny box', 'tiny boxes')}" for number in ids}
    )
