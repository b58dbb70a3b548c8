"""What the pixels of images say of boxes: that they lie elsewhere than the objects, or that objects have none.

Images are compared at 64 × 64 pixels of brightness, as they are kept for the check of a data set (`looks.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from striate.data.audit.boxes import box_sizes, find_box_faults, find_tiny_boxes
from striate.data.audit.evidence import Evidence
from striate.data.audit.marked import Marked, alone, some
from striate.data.box_records import Boxed
from striate.data.rotated_boxes import corners
from striate.records import Finding
from striate.wording import percent, several

_FEWEST, _SIDE = 12, 64
_SURE, _MOST_WINS = 1e-3, 0.65
"""Another place fits better: on more than this share of images, with this p-value."""

Places = NDArray[np.float64]
"""(M, 4) left, top, right and bottom edges in pixels of the small image."""


def _center_for_corner(boxes: Places, size: NDArray[np.int64]) -> Places:
    del size
    half = np.tile((boxes[:, 2:] - boxes[:, :2]) / 2, 2)
    return boxes - half


def _corner_for_center(boxes: Places, size: NDArray[np.int64]) -> Places:
    del size
    return boxes + np.tile((boxes[:, 2:] - boxes[:, :2]) / 2, 2)


def _exchanged(boxes: Places, size: NDArray[np.int64]) -> Places:
    height, width = (int(side) for side in size)
    scale = np.array([height / width, width / height, height / width, width / height])
    turned: Places = boxes[:, [1, 0, 3, 2]] * scale
    return turned


def _mirrored(boxes: Places, size: NDArray[np.int64]) -> Places:
    del size
    return np.stack([_SIDE - boxes[:, 2], boxes[:, 1], _SIDE - boxes[:, 0], boxes[:, 3]], 1)


def _upside_down(boxes: Places, size: NDArray[np.int64]) -> Places:
    del size
    return np.stack([boxes[:, 0], _SIDE - boxes[:, 3], boxes[:, 2], _SIDE - boxes[:, 1]], 1)


_READINGS: tuple[tuple[str, str, Callable[[Places, NDArray[np.int64]], Places]], ...] = (
    ("x and y are exchanged", "Exchange x and y.", _exchanged),
    (
        "the first pair is the center, not the corner",
        "Subtract half of width and height from x and y.",
        _center_for_corner,
    ),
    ("the first pair is the corner, not the center", "Add half of width and height to x and y.", _corner_for_center),
    ("the images were mirrored, the boxes were not", "Write width − x for each x, or turn the images back.", _mirrored),
    ("y is measured from the bottom", "Write height − y for each y.", _upside_down),
)


def find_in_boxes(evidence: Evidence) -> list[Marked]:
    """All that is found about boxes but what depends on splits. Where boxes lie elsewhere than objects, that is said,
    and not what follows from it."""
    listing = evidence.listing
    found = list(find_box_faults(listing, box_sizes(listing, evidence.scan.headers)))
    misread = any(mark.finding.code == "data.box-format" for mark in found)
    misplaced = None if misread else find_misplaced_boxes(evidence)
    if misplaced is not None:
        return [misplaced, *(mark for mark in found if mark.finding.code != "data.box-range")]
    others = () if misread else (find_unlabeled_objects(evidence), find_tiny_boxes(evidence))
    return [*found, *(mark for mark in others if mark is not None)]


def find_misplaced_boxes(evidence: Evidence) -> Marked | None:
    """`data.box-shift`: boxes that lie better on the image before or after theirs; `data.box-format`: boxes that lie
    better when they are read in another way.

    Of each image it is measured how much brightness changes across the edges of its own boxes, and of those that it
    would have otherwise; a sign test over the images says whether these fit better.
    """
    listing, looks = evidence.listing, evidence.looks
    if not listing.boxes or looks is None:
        return None
    ids = [number for number in evidence.readable if number in looks.lumas and listing.boxes[number].boxes]
    if len(ids) < _FEWEST or any(box.angle is not None for number in ids for box in listing.boxes[number].boxes):
        return None
    changes = [_changes(looks.lumas[number]) for number in ids]
    boxes = [_places(listing.boxes[number], looks.sizes[number]) for number in ids]
    own = np.array([_across(*pair) for pair in zip(changes, boxes, strict=True)])
    best: tuple[int, int, str] | None = None  # images on which another place fits better, how many, and which place
    others = {"before": [boxes[k - 1] for k in range(len(ids))], "after": [*boxes[1:], boxes[0]]}
    for what, _, reading in _READINGS:
        others[what] = [reading(one, looks.sizes[number]) for one, number in zip(boxes, ids, strict=True)]
    for where, places in others.items():
        wins, count = _wins(own, np.array([_across(*pair) for pair in zip(changes, places, strict=True)]))
        if count >= _FEWEST and wins and (best is None or wins * best[1] > best[0] * count):
            best = wins, count, where
    return None if best is None else _told(evidence, *best)


def _wins(own: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[int, int]:
    """On how many images the other places fit better, of how many; 0 where that may be chance."""
    from scipy.stats import binomtest

    known = np.isfinite(own) & np.isfinite(other) & (own != other)
    wins, count = int((other > own)[known].sum()), int(known.sum())
    better = count >= _FEWEST and wins > _MOST_WINS * count and binomtest(wins, count).pvalue < _SURE
    return (wins, count) if better else (0, count)


def _told(evidence: Evidence, wins: int, count: int, where: str) -> Marked:
    on, threshold = f"on {wins:,} of {several(count, 'image')}", f"about half, or fewer (sign test, p < {_SURE:g})"
    if where in ("before", "after"):
        finding = Finding(
            code="data.box-shift",
            severity="error",
            where=evidence.listing.source,
            measured=f"{on} the boxes of the image {where} it in the list fit better",
            threshold=threshold,
            why=f"Each image seems to have the boxes of the image {'after' if where == 'before' else 'before'} it, so "
            "the network cannot learn anything.",
            remedy="Compare a few images with their boxes (striate data show), and the order of both lists.",
        )
        return Marked(finding)
    remedy = next(remedy for what, remedy, _ in _READINGS if what == where)
    finding = Finding(
        code="data.box-format",
        severity="error",
        where=evidence.listing.source,
        measured=f"{on} boxes fit better if {where}: brightness changes more across their edges",
        threshold=threshold,
        why="If boxes are read in another format than they were written in, they miss their objects.",
        remedy=f"Look at some (striate data show). {remedy}",
    )
    return Marked(finding)


def _changes(luma: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How much brightness changes to the right and down, between the pixels of a small image."""
    values = luma.astype(np.float64)
    return np.abs(np.diff(values, axis=1)), np.abs(np.diff(values, axis=0))


def _places(boxed: Boxed, size: NDArray[np.int64]) -> Places:
    height, width = (int(side) for side in size)
    edges = np.array([box.edges for box in boxed.in_pixels((height, width)).boxes], np.float64).reshape(-1, 4)
    found: Places = edges / np.array([width, height, width, height]) * _SIDE
    return found


def _across(changes: tuple[NDArray[np.float64], NDArray[np.float64]], boxes: Places) -> float:
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


_MOST_IMAGES, _PIXELS, _LEAST_SIDE = 300, 150, 4
_TELLS = 0.9
"""Pixels of objects and of background are told apart with this area under the ROC curve or more; else nothing is
said."""
UNLABELED = 0.2
"""The share of images that show something like an object without a box, from which on that is told."""


def find_unlabeled_objects(evidence: Evidence) -> Marked | None:
    """`data.box-unlabeled`: images that show what looks like an object and has no box.

    A classifier of pixels by their surroundings learns from half of the images what is in boxes, and says it of the
    other half. An image is named where a place outside its boxes, of the usual size of a box, looks more like an
    object than a quarter of the boxes do.
    """
    listing, looks = evidence.listing, evidence.looks
    if not listing.boxes or looks is None:
        return None
    ids = [number for number in evidence.readable if number in looks.lumas]
    ids = [ids[k] for k in np.linspace(0, len(ids) - 1, min(len(ids), _MOST_IMAGES)).astype(int)] if ids else []
    boxes = [_corners(listing.boxes[number], looks.sizes[number]) for number in ids]
    sides = [np.linalg.norm(box[[1, 3]] - box[0], axis=1).min() for one in boxes for box in one]
    if len(ids) < 2 * _FEWEST or len(sides) < 2 * _FEWEST or np.median(sides) < _LEAST_SIDE:
        return None
    areas = [[_area(box) for box in one] for one in boxes]
    inside = np.stack([np.any([np.zeros((_SIDE, _SIDE), np.bool_), *one], axis=0) for one in areas])
    like = _object_likeness(np.stack([looks.lumas[number] for number in ids]), inside)
    if like is None:
        return None
    known = [like[k][area].mean() for k, one in enumerate(areas) for area in one if area.any()]
    usual = np.quantile(known, 0.25)
    side = max(_LEAST_SIDE, int(np.median(sides)))
    odd = [number for k, number in enumerate(ids) if _best_outside(like[k], inside[k], side) >= usual]
    if len(odd) < UNLABELED * len(ids):
        return None
    finding = Finding(
        code="data.box-unlabeled",
        severity="warning",
        where=listing.source,
        measured=f"{len(odd):,} of {several(len(ids), 'image')} have a place without a box that looks more like an "
        f"object than a quarter of the boxes do: {some([listing.paths[number] for number in odd])}",
        threshold=f"{percent(UNLABELED)} of the images",
        why="Training treats an object without a box as background, so the network also detects similar objects less.",
        remedy="Look at these images (striate data show). Draw the missing boxes, or leave the images out.",
    )
    return Marked(finding, alone(odd), dict.fromkeys(odd, "an object without a box?"))


def _corners(boxed: Boxed, size: NDArray[np.int64]) -> NDArray[np.float64]:
    """(M, 4, 2) x and y of the corners of boxes, as they are turned, in pixels of the small image."""
    height, width = (int(side) for side in size)
    boxes = [(*box.edges, box.angle or 0.0) for box in boxed.in_pixels((height, width)).boxes]
    found: NDArray[np.float64] = corners(np.array(boxes, np.float64).reshape(-1, 5)) / (width, height) * _SIDE
    return found


def _area(box: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(64, 64) the pixels whose centers lie in a box of these corners."""
    y, x = np.mgrid[:_SIDE, :_SIDE] + 0.5
    along = np.roll(box, -1, 0) - box
    found: NDArray[np.bool_] = np.all(
        [dx * (y - top) >= dy * (x - left) for (left, top), (dx, dy) in zip(box, along, strict=True)], axis=0
    )
    return found


def _object_likeness(lumas: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """(N, 64, 64) how probable it is that a pixel is in a box, as the other half of the images has it; None where that
    cannot be told."""
    from scipy.ndimage import gaussian_filter
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    images = lumas.astype(np.float32)
    images = images - np.median(images, axis=(1, 2), keepdims=True)
    layers = [images]
    for width in (1, 2, 4):
        smooth = gaussian_filter(images, (0, width, width))
        varied = gaussian_filter(images**2, (0, width, width)) - smooth**2
        layers += [smooth, np.sqrt(np.maximum(varied, 0))]
    layers.append(layers[1] - layers[5])
    features = np.stack(layers, -1)
    draw, found = np.random.default_rng(0), np.zeros(inside.shape)
    half = np.arange(len(images)) % 2
    for held in (0, 1):
        rows = np.flatnonzero(half != held)
        chosen = [
            (row, place)
            for row in rows
            for which in (inside[row], ~inside[row])
            for place in draw.permutation(np.flatnonzero(which))[:_PIXELS]
        ]
        numbers, places = np.array(chosen).T
        x = features.reshape(len(features), -1, features.shape[-1])[numbers, places]
        y = inside.reshape(len(inside), -1)[numbers, places]
        if y.all() or not y.any():
            return None
        trees = HistGradientBoostingClassifier(max_iter=40, random_state=0, early_stopping=False).fit(x, y)
        own = np.flatnonzero(half == held)
        said = trees.predict_proba(features[own].reshape(-1, features.shape[-1]))[:, 1]
        found[own] = said.reshape(len(own), _SIDE, _SIDE)
    every = slice(None, None, 7)
    return found if roc_auc_score(inside.reshape(-1)[every], found.reshape(-1)[every]) >= _TELLS else None


def _best_outside(like: NDArray[np.float64], inside: NDArray[np.bool_], side: int) -> float:
    """The largest mean over a square of so many pixels a side that no box touches; 0 where there is none."""
    from scipy.ndimage import uniform_filter

    margin = side // 2 + 1
    mean = uniform_filter(np.where(inside, 0.0, like), side, mode="constant")
    touched = uniform_filter(inside.astype(np.float64), side, mode="constant") > 1e-9
    touched[:margin] = touched[-margin:] = True
    touched[:, :margin] = touched[:, -margin:] = True
    return float(mean[~touched].max(initial=0.0))
