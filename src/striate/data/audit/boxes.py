"""Boxes that do not fit their images, or that somebody may have written down in another way than they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from striate.data.audit.classes import missing_class
from striate.data.audit.evidence import Evidence
from striate.data.audit.leaks import ORDER
from striate.data.audit.marked import GRAVE, Marked, alone, some
from striate.data.box_records import Box, Boxed, Edges
from striate.data.listing import Listing
from striate.data.rotated_boxes import SEEN, common_area, corners, seen_shares
from striate.records import Finding, Severity
from striate.wording import several

_BEYOND = 1.5
"""Pixels that a box may leave its image by: of counting from 0 or 1, and of rounding."""
_SAME = 0.95
"""IoU from which on two boxes of a class are one object twice."""
_MOSTLY = 0.3
"""A share of boxes that do not fit, from which on another way of reading them is looked for."""
_FITS = 0.95
"""Where so many boxes fit when they are read in another way, that way is meant."""


class _Placed(NamedTuple):
    """A box in pixels, with the id and (height, width) of its image."""

    number: int
    box: Box
    size: tuple[int, int]
    boxed: Boxed


def _placed(listing: Listing, sizes: Mapping[int, tuple[int, int]]) -> Iterator[_Placed]:
    for number, size in sizes.items():
        boxed = listing.boxes[number]
        for box in boxed.in_pixels(size).boxes:
            yield _Placed(number, box, size, boxed)


def find_box_faults(listing: Listing, sizes: Mapping[int, tuple[int, int]]) -> tuple[Marked, ...]:
    """All that is wrong with the boxes of images of these (height, width) `sizes`, by id, as far as that follows from
    numbers alone: none for data without boxes."""
    if not listing.boxes:
        return ()
    placed = list(_placed(listing, sizes))
    systematic = _misread(listing, placed)
    singles = (_flat(listing, placed), _outside(listing, placed)) if systematic is None else ()
    found = (systematic, *singles, _doubled(listing, placed), _other_sizes(listing, sizes))
    return tuple(mark for mark in found if mark is not None)


def box_sizes(listing: Listing, headers: Mapping[int, object]) -> dict[int, tuple[int, int]]:
    """(height, width) of the readable images of data with boxes, by id."""
    if not listing.boxes:
        return {}
    return {n: size for n, header in headers.items() if (size := listing.medium.size_of(header)) is not None}


def _named(one: _Placed) -> str:
    left, top, right, bottom = (f"{edge:g}" for edge in one.box.edges)
    return f"{one.boxed.where(one.box)} ({one.box.label} {left}, {top}, {right}, {bottom})"


def _marked(
    listing: Listing, code: str, bad: Sequence[_Placed], total: int, what: str, why: str, remedy: str
) -> Marked | None:
    if not bad:
        return None
    severity: Severity = "error" if len(bad) >= GRAVE * total else "warning"
    finding = Finding(
        code=code,
        severity=severity,
        where=listing.source,
        measured=f"{len(bad):,} of {several(total, 'box', 'boxes')} {what}: {some([_named(one) for one in bad])}",
        threshold=f"0; an error from {GRAVE:.0%} of the boxes",
        why=why,
        remedy=remedy,
    )
    ids = sorted({one.number for one in bad})
    counts = Counter(one.number for one in bad)
    return Marked(finding, alone(ids), {number: several(counts[number], "box", "boxes") for number in ids})


def _flat(listing: Listing, placed: Sequence[_Placed]) -> Marked | None:
    """`data.box-area`: boxes without an area."""
    bad = [one for one in placed if one.box.width <= 0 or one.box.height <= 0]
    why = "A box without width or height is of no object: training leaves it out."
    return _marked(listing, "data.box-area", bad, len(placed), "have no area", why, "Draw them again, or remove them.")


def _leaves(edges: Edges, size: tuple[int, int]) -> bool:
    left, top, right, bottom = edges
    height, width = size
    return min(left, top) < -_BEYOND or right > width + _BEYOND or bottom > height + _BEYOND


def _mostly_outside(one: _Placed) -> bool:
    """Whether training leaves a rotated box out."""
    boxes = np.array([[*one.box.edges, one.box.angle or 0.0]])
    return one.box.width > 0 < one.box.height and seen_shares(boxes, *one.size)[0] < SEEN


def _outside(listing: Listing, placed: Sequence[_Placed]) -> Marked | None:
    """`data.box-range`: boxes that leave their image."""
    turned = [one for one in placed if one.box.angle is not None]
    bad = [one for one in placed if one.box.angle is None and _leaves(one.box.edges, one.size)]
    why = "Training clips them to the image, and leaves those out of which less than a quarter is in it."
    if turned:
        bad = [one for one in turned if _mostly_outside(one)]
        why = "Training leaves rotated boxes out of which less than half is in the image."
    remedy = "Compare the image with the one that was annotated: it may have been cropped, turned or scaled since."
    return _marked(listing, "data.box-range", bad, len(placed), "leave their image", why, remedy)


def _iou(one: Box, other: Box) -> float:
    a, b = one.edges, other.edges
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(0.0, wide) * max(0.0, high)
    if one.angle or other.angle:
        common = common_area(*corners(np.array([[*a, one.angle or 0.0], [*b, other.angle or 0.0]])))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0


def _doubled(listing: Listing, placed: Sequence[_Placed]) -> Marked | None:
    """`data.box-double`: two boxes of a class around one object."""
    before: dict[tuple[int, str], list[_Placed]] = {}
    bad = []
    for one in placed:
        if one.box.width <= 0 or one.box.height <= 0 or one.box.crowd:
            continue
        others = before.setdefault((one.number, one.box.label), [])
        if any(_iou(one.box, other.box) >= _SAME for other in others):
            bad.append(one)
        others.append(one)
    why = "Of an object that is there twice, every prediction misses one: it is learned and measured wrongly."
    return _marked(listing, "data.box-double", bad, len(placed), "are there twice", why, "Remove one of each.")


def _other_sizes(listing: Listing, sizes: Mapping[int, tuple[int, int]]) -> Marked | None:
    """`data.box-size`: images of another size than their annotations say."""
    bad = [n for n, size in sizes.items() if listing.boxes[n].size not in (None, size)]
    if not bad:
        return None

    def said(number: int) -> str:
        height, width = listing.boxes[number].size or (0, 0)
        return f"{listing.paths[number]} ({sizes[number][1]} × {sizes[number][0]}, annotated as {width} × {height})"

    turned = all(listing.boxes[n].size == sizes[n][::-1] for n in bad)
    why = "They were turned" if turned else "They were scaled, cropped or exchanged"
    finding = Finding(
        code="data.box-size",
        severity="error" if len(bad) >= GRAVE * len(sizes) else "warning",
        where=listing.source,
        measured=f"{len(bad):,} of {several(len(sizes), 'image')} (width × height): {some([said(n) for n in bad])}",
        threshold="images of the size that was annotated",
        why=f"{why} after their boxes were drawn, which then lie elsewhere.",
        remedy="Put the images there that were annotated, or scale the boxes as the images were.",
    )
    return Marked(finding, alone(bad), dict.fromkeys(bad, "another size"))


_Reading = tuple[str, str, Callable[[Edges, tuple[int, int]], Edges]]
_READINGS: tuple[_Reading, ...] = (
    (
        "shares of width and height, not pixels",
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


def _misread(listing: Listing, placed: Sequence[_Placed]) -> Marked | None:
    """`data.box-format`: boxes of which many do not fit, and nearly all do when they are read in another way."""
    if len(placed) < 5 or any(boxed.relative for boxed in listing.boxes):
        return None
    edges = [one.box.edges for one in placed]
    sizes = [one.size for one in placed]
    wrong = 1 - _fitting(edges, sizes)
    tiny = float(np.mean([max(map(abs, e)) <= 1.0 for e in edges]))
    if wrong < _MOSTLY and tiny < _FITS:
        return None
    for what, remedy, reading in _READINGS:
        if (what.startswith("shares")) != (tiny >= _FITS):
            continue
        again = [reading(e, s) for e, s in zip(edges, sizes, strict=True)]
        if _fitting(again, sizes) >= _FITS:
            return Marked(
                Finding(
                    code="data.box-format",
                    severity="error",
                    where=listing.source,
                    measured=f"{100 * max(wrong, tiny):.0f} % of {several(len(placed), 'box', 'boxes')} do not fit; as "
                    f"{what}, {100 * _fitting(again, sizes):.0f} % would: {some([_named(one) for one in placed[:3]])}",
                    threshold="boxes within their images",
                    why="Boxes that are read in another way than they were written lie on nothing.",
                    remedy=f"{remedy[0].upper()}{remedy[1:]}.",
                )
            )
    return None


def _fitting(edges: Sequence[Edges], sizes: Sequence[tuple[int, int]]) -> float:
    """The share of boxes with an area, of at least a pixel, within their image."""
    fits = [
        e[2] - e[0] >= 1 and e[3] - e[1] >= 1 and not _leaves(e, size) for e, size in zip(edges, sizes, strict=True)
    ]
    return sum(fits) / max(1, len(fits))


def find_missing_box_classes(evidence: Evidence) -> Marked | None:
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
        remedy += " No box has class number 0: where numbers begin with 1, subtract 1 from all of them."
    return missing_class(evidence, known, lacking, remedy)


_FEWEST, _SIDE = 12, 64
_SURE = 1e-3


def find_shifted_boxes(evidence: Evidence) -> Marked | None:
    """`data.box-shift`: boxes that lie better on the image before or after theirs.

    Of each image it is measured how much brightness changes across the edges of its own boxes, and of those of its
    neighbor in the list; a sign test over the images says whether one of them fits better.
    """
    from scipy.stats import binomtest

    listing, looks = evidence.listing, evidence.looks
    if not listing.boxes or looks is None:
        return None
    ids = [number for number in evidence.readable if number in looks.lumas and listing.boxes[number].boxes]
    if len(ids) < _FEWEST:
        return None
    changes = {number: _changes(looks.lumas[number]) for number in ids}
    shares = {number: _shares(listing.boxes[number], looks.sizes[number]) for number in ids}
    own = np.array([_across(changes[n], shares[n]) for n in ids])
    for step, where in ((1, "before"), (-1, "after")):
        others = np.array([_across(changes[n], shares[ids[(k + step) % len(ids)]]) for k, n in enumerate(ids)])
        known = np.isfinite(own) & np.isfinite(others) & (own != others)
        wins, count = int((others > own)[known].sum()), int(known.sum())
        if count >= _FEWEST and wins > 0.65 * count and binomtest(wins, count).pvalue < _SURE:
            finding = Finding(
                code="data.box-shift",
                severity="error",
                where=listing.source,
                measured=f"on {wins:,} of {several(count, 'image')} the boxes of the next one in the list fit better"
                if step == 1
                else f"on {wins:,} of {several(count, 'image')} the boxes of the one before in the list fit better",
                threshold=f"about half, or fewer (sign test, p < {_SURE:g})",
                why=f"It seems that each image has the boxes of the one {where} it: what is learned is chance.",
                remedy="Compare a few images with their boxes (striate data show), and the order of both lists.",
            )
            return Marked(finding)
    return None


def _changes(luma: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much brightness changes to the right and down, between the pixels of a small image."""
    values = luma.astype(np.float64)
    return np.abs(np.diff(values, axis=1)), np.abs(np.diff(values, axis=0))


def _shares(boxed: Boxed, size: NDArray[np.int64]) -> NDArray[np.float64]:
    """(M, 4) edges in pixels of a small image."""
    height, width = (int(side) for side in size)
    edges = np.array([box.edges for box in boxed.in_pixels((height, width)).boxes], np.float64)
    found: NDArray[np.float64] = edges / np.array([width, height, width, height]) * _SIDE
    return found


def _across(changes: tuple[NDArray[np.float64], NDArray[np.float64]], boxes: NDArray[np.float64]) -> float:
    """The mean change of brightness across edges of boxes inside the image, less that of the whole image."""
    right, down = changes
    found = []
    for left, top, end, bottom in boxes:
        rows, columns = _span(top, bottom), _span(left, end)
        for place in (left, end):
            if 1 <= place <= _SIDE - 1 and rows.stop > rows.start:
                found.append(float(right[rows, round(place) - 1].mean()) - float(right.mean()))
        for place in (top, bottom):
            if 1 <= place <= _SIDE - 1 and columns.stop > columns.start:
                found.append(float(down[round(place) - 1, columns].mean()) - float(down.mean()))
    return float(np.mean(found)) if found else float("nan")


def _span(start: float, stop: float) -> slice:
    return slice(max(0, round(start)), min(_SIDE, round(stop)))
