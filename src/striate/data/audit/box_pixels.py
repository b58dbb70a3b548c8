"""Boxes that lie elsewhere than the objects, and objects without a box, found by the pixels of the images.

Images are compared by their luma on 64 × 64 pixels (`image_statistics.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from striate.data.audit.boxes import box_sizes, find_box_faults, find_tiny_boxes
from striate.data.audit.evidence import DataEvidence
from striate.data.audit.sample_finding import SampleFinding, one_group_each, some
from striate.data.box_records import ImageBoxes
from striate.data.rotated_boxes import corners
from striate.records import Finding
from striate.wording import percent, several, several_of

_FEWEST, _SIDE = 12, 64
_SURE, _MOST_WINS = 1e-3, 0.65
"""Other boxes fit better: on more than this share of the images, with at most this p-value."""

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


def find_in_boxes(evidence: DataEvidence) -> list[SampleFinding]:
    """All findings about boxes that do not depend on splits. Where boxes lie elsewhere than the objects, findings that
    follow from that are left out."""
    listing = evidence.listing
    found = list(find_box_faults(listing, box_sizes(listing, evidence.scan.headers)))
    misread = any(mark.finding.code == "data.box-format" for mark in found)
    misplaced = None if misread else find_misplaced_boxes(evidence)
    if misplaced is not None:
        return [misplaced, *(mark for mark in found if mark.finding.code != "data.box-range")]
    others = () if misread else (find_unlabeled_objects(evidence), find_tiny_boxes(evidence))
    return [*found, *(mark for mark in others if mark is not None)]


def find_misplaced_boxes(evidence: DataEvidence) -> SampleFinding | None:
    """`data.box-shift`: boxes that fit the image before or after theirs better; `data.box-format`: boxes that fit
    better when they are read in another format.

    For each image, the change of brightness across the edges of its own boxes is compared with that across the edges of
    the other boxes. A sign test over the images says whether the other boxes fit better.
    """
    listing, statistics = evidence.listing, evidence.image_statistics
    if not listing.boxes or statistics is None:
        return None
    ids = [number for number in evidence.readable if number in statistics.lumas and listing.boxes[number].boxes]
    if len(ids) < _FEWEST or any(box.angle is not None for number in ids for box in listing.boxes[number].boxes):
        return None
    changes = [_changes(statistics.lumas[number]) for number in ids]
    boxes = [_places(listing.boxes[number], statistics.sizes[number]) for number in ids]
    own = np.array([_across(*pair) for pair in zip(changes, boxes, strict=True)])
    best: tuple[int, int, str] | None = None  # images on which another place fits better, how many, and which place
    others = {"before": [boxes[k - 1] for k in range(len(ids))], "after": [*boxes[1:], boxes[0]]}
    for what, _, reading in _READINGS:
        others[what] = [reading(one, statistics.sizes[number]) for one, number in zip(boxes, ids, strict=True)]
    for where, places in others.items():
        wins, count = _wins(own, np.array([_across(*pair) for pair in zip(changes, places, strict=True)]))
        if count >= _FEWEST and wins and (best is None or wins * best[1] > best[0] * count):
            best = wins, count, where
    return None if best is None else _finding(evidence, *best)


def _wins(own: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[int, int]:
    """The number of images on which the other boxes fit better (0 where that may be chance), and of all images."""
    from scipy.stats import binomtest

    known = np.isfinite(own) & np.isfinite(other) & (own != other)
    wins, count = int((other > own)[known].sum()), int(known.sum())
    better = count >= _FEWEST and wins > _MOST_WINS * count and binomtest(wins, count).pvalue < _SURE
    return (wins, count) if better else (0, count)


def _finding(evidence: DataEvidence, wins: int, count: int, where: str) -> SampleFinding:
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
        return SampleFinding(finding)
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
    return SampleFinding(finding)


def _changes(luma: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Absolute differences of brightness between pixels of a small image: to the right, and down."""
    values = luma.astype(np.float64)
    return np.abs(np.diff(values, axis=1)), np.abs(np.diff(values, axis=0))


def _places(boxed: ImageBoxes, size: NDArray[np.int64]) -> Places:
    height, width = (int(side) for side in size)
    edges = np.array([box.edges for box in boxed.in_pixels((height, width)).boxes], np.float64).reshape(-1, 4)
    found: Places = edges / np.array([width, height, width, height]) * _SIDE
    return found


def _across(changes: tuple[NDArray[np.float64], NDArray[np.float64]], boxes: Places) -> float:
    """The mean change of brightness across those edges of boxes that lie inside the image, minus that of all pixels."""
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
"""The classifier must distinguish pixels of objects from background with at least this area under the ROC curve; else
nothing is reported."""
UNLABELED = 0.2
"""Reported if at least this share of the images shows something like an object without a box."""


def find_unlabeled_objects(evidence: DataEvidence) -> SampleFinding | None:
    """`data.box-unlabeled`: images that show something that looks like an object, without a box.

    A classifier of pixels by their surroundings learns from half of the images which pixels are in boxes, and predicts
    it for the other half. An image is reported if a square outside its boxes, of the usual size of a box, looks more
    like an object than a quarter of the boxes do.
    """
    listing, statistics = evidence.listing, evidence.image_statistics
    if not listing.boxes or statistics is None:
        return None
    ids = [number for number in evidence.readable if number in statistics.lumas]
    ids = [ids[k] for k in np.linspace(0, len(ids) - 1, min(len(ids), _MOST_IMAGES)).astype(int)] if ids else []
    boxes = [_corners(listing.boxes[number], statistics.sizes[number]) for number in ids]
    sides = [np.linalg.norm(box[[1, 3]] - box[0], axis=1).min() for one in boxes for box in one]
    if len(ids) < 2 * _FEWEST or len(sides) < 2 * _FEWEST or np.median(sides) < _LEAST_SIDE:
        return None
    areas = [[_area(box) for box in one] for one in boxes]
    inside = np.stack([np.any([np.zeros((_SIDE, _SIDE), np.bool_), *one], axis=0) for one in areas])
    like = _object_likeness(np.stack([statistics.lumas[number] for number in ids]), inside)
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
        measured=f"{several_of(len(odd), len(ids), 'image', 'have')} a place without a box that looks more like an "
        f"object than a quarter of the boxes do: {some([listing.paths[number] for number in odd])}",
        threshold=f"{percent(UNLABELED)} of the images",
        why="Training treats an object without a box as background, so the network also detects similar objects less.",
        remedy="Look at these images (striate data show). Draw the missing boxes, or leave the images out.",
    )
    return SampleFinding(finding, one_group_each(odd), dict.fromkeys(odd, "an object without a box?"))


def _corners(boxed: ImageBoxes, size: NDArray[np.int64]) -> NDArray[np.float64]:
    """(M, 4, 2) x and y of the corners of boxes, rotated ones included, in pixels of the small image."""
    height, width = (int(side) for side in size)
    boxes = [(*box.edges, box.angle or 0.0) for box in boxed.in_pixels((height, width)).boxes]
    found: NDArray[np.float64] = corners(np.array(boxes, np.float64).reshape(-1, 5)) / (width, height) * _SIDE
    return found


def _area(box: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(64, 64) whether the center of a pixel lies in the box with these corners."""
    y, x = np.mgrid[:_SIDE, :_SIDE] + 0.5
    along = np.roll(box, -1, 0) - box
    found: NDArray[np.bool_] = np.all(
        [dx * (y - top) >= dy * (x - left) for (left, top), (dx, dy) in zip(box, along, strict=True)], axis=0
    )
    return found


def _object_likeness(lumas: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """(N, 64, 64) the probability that a pixel is in a box, by a classifier that learns from the other half of the
    images; None where it does not distinguish objects from background."""
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
        predicted = trees.predict_proba(features[own].reshape(-1, features.shape[-1]))[:, 1]
        found[own] = predicted.reshape(len(own), _SIDE, _SIDE)
    every = slice(None, None, 7)
    return found if roc_auc_score(inside.reshape(-1)[every], found.reshape(-1)[every]) >= _TELLS else None


def _best_outside(like: NDArray[np.float64], inside: NDArray[np.bool_], side: int) -> float:
    """The largest mean of `like` over a square of `side` pixels that touches no box; 0 where there is none."""
    from scipy.ndimage import uniform_filter

    margin = side // 2 + 1
    mean = uniform_filter(np.where(inside, 0.0, like), side, mode="constant")
    touched = uniform_filter(inside.astype(np.float64), side, mode="constant") > 1e-9
    touched[:margin] = touched[-margin:] = True
    touched[:, :margin] = touched[:, -margin:] = True
    return float(mean[~touched].max(initial=0.0))
