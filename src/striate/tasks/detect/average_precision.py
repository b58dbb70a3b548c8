"""Average precision as COCO computes it, and which detections are hits.

Lin et al., "Microsoft COCO: common objects in context", 2014, and its code: in each image and class, by falling score,
each detection is matched to the object that it overlaps most; crowds may be matched any number of times, and their
detections do not count. Precision is the highest at this recall or a higher one; its mean is over 101 recalls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.annotations.boxes import ANGLE, CLASS, CROWD
from striate.statistics.estimate import Estimate
from striate.statistics.intervals import FEW, drawn_count, drawn_units, resamples_for, varying_interval
from striate.statistics.ranking import mean_of_known
from striate.tasks.detect.rotated import areas, common_area, with_angle
from striate.tasks.headline import Headline, Rows

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
SCORE = 5
"""The column of the score in detections, whose other columns are those of targets."""
FIELDS = 4
"""Numbers of a row for each detection: its score, its class (−1: no detection), and, as bits, at which of `IOUS` it is
a hit, and at which it does not count. Before them comes the number of classes; after them, the objects of each
class."""
MOST = 100
"""Largest number of detections of a class that count in an image, those with the highest scores; more where predictions
have room for more, because images have more objects."""
_BITS = 2.0 ** np.arange(len(IOUS))

Overlaps = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]
"""(D, G) IoU of detections and objects in the columns of targets; for crowds, the covered share of the detection."""


def upright_overlaps(found: NDArray[Any], objects: NDArray[Any]) -> NDArray[np.float64]:
    """The overlaps of boxes without an angle."""
    a, b = found[:, None, :4].astype(np.float64), objects[None, :, :4].astype(np.float64)
    corner = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.clip(corner, 0, None).prod(-1)
    area_a, area_b = ((box[..., 2:] - box[..., :2]).clip(0).prod(-1) for box in (a, b))
    union = np.where(objects[None, :, CROWD] > 0, area_a, area_a + area_b - common)
    shares: NDArray[np.float64] = np.divide(common, union, out=np.zeros(common.shape), where=union > 0)
    return shares


def rotated_overlaps(found: NDArray[Any], objects: NDArray[Any]) -> NDArray[np.float64]:
    """The overlaps of boxes with an angle; those without one are upright."""
    a, b = (with_angle(torch.as_tensor(rows, dtype=torch.float64)) for rows in (found, objects))
    one, other = (part.flatten() for part in torch.meshgrid(torch.arange(len(a)), torch.arange(len(b)), indexing="ij"))
    common = common_area(a[one], b[other]).clamp(min=0).view(len(a), len(b)).numpy()
    area_a, area_b = areas(a).numpy()[:, None], areas(b).numpy()[None]
    union = np.where(objects[None, :, CROWD] > 0, area_a, area_a + area_b - common)
    shares: NDArray[np.float64] = np.divide(common, union, out=np.zeros(common.shape), where=union > 0)
    return shares


def overlaps_for(*rows: NDArray[Any]) -> Overlaps:
    """`rotated_overlaps` where any of these detections or objects has an angle, else `upright_overlaps`."""
    return rotated_overlaps if any(part.shape[-1] > ANGLE for part in rows) else upright_overlaps


def match(
    found: NDArray[Any], objects: NDArray[Any], overlaps: Overlaps = upright_overlaps
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    """Match detections (D, …) of one image and class, by falling score, to its objects (G, …).

    Returns (D, T) each: whether a detection is a hit at each of `IOUS`, whether it does not count, and the object that
    it is matched to (−1: none).
    """
    hits = np.zeros((len(found), len(IOUS)), np.bool_)
    nothing, chose = hits.copy(), np.full(hits.shape, -1)
    if not len(found) or not len(objects):
        return hits, nothing, chose
    crowd = objects[:, CROWD] > 0
    iou = overlaps(found, objects)
    free = np.ones((len(IOUS), len(objects)), np.bool_)
    for place in np.flatnonzero(iou.max(1) >= IOUS[0] - 1e-9):
        fits = (iou[place] >= np.minimum(IOUS, 1 - 1e-10)[:, None]) & free
        for group in (~crowd, crowd):  # crowds only match if no single object does
            open_ = fits & group & (chose[place] < 0)[:, None]
            which = np.flatnonzero(open_.any(1))
            if len(which):
                shown = np.where(open_[which], iou[place], -1)
                # COCO takes the last one of equal overlaps.
                chose[place, which] = shown.shape[1] - 1 - shown[:, ::-1].argmax(1)
        taken = np.flatnonzero(chose[place] >= 0)
        nothing[place, taken] = crowd[chose[place, taken]]
        hits[place, taken] = ~nothing[place, taken]
        free[taken, chose[place, taken]] = crowd[chose[place, taken]]
    return hits, nothing, chose


def rows_of(decoded: NDArray[Any], targets: NDArray[Any], classes: int, overlaps: Overlaps = upright_overlaps) -> Rows:
    """(N, 1 + 4 D + K) float64 from detections (N, D, …) and objects (N, M, …): what each image adds to the metrics."""
    count = decoded.shape[1]
    rows = np.zeros((len(decoded), 1 + FIELDS * count + classes))
    rows[:, 0] = classes
    for whole, found, truth in zip(rows, decoded, targets, strict=True):
        row = whole[1:]
        row[1 : FIELDS * count : FIELDS] = -1
        objects = truth[truth[:, CLASS] >= 0]
        there = found[found[:, CLASS] >= 0]
        place = 0
        for number in np.unique(np.concatenate([objects[:, CLASS], there[:, CLASS]])).astype(int).tolist():
            own = objects[objects[:, CLASS] == number]
            some = there[there[:, CLASS] == number]
            some = some[np.argsort(-some[:, SCORE], kind="stable")][: max(MOST, count)]
            hits, nothing, _ = match(some, own, overlaps)
            part = row[FIELDS * place : FIELDS * (place + len(some))].reshape(-1, FIELDS)
            part[:, 0], part[:, 1] = some[:, SCORE], number
            part[:, 2], part[:, 3] = hits @ _BITS, nothing @ _BITS
            place += len(some)
            row[FIELDS * count + number] = (own[:, CROWD] == 0).sum()
    return rows


@dataclass(frozen=True, eq=False)
class Ranked:
    """The detections of one class in all images, by falling score."""

    image: NDArray[np.int64]
    """(D,) number of the image of each detection."""
    scores: NDArray[np.float64]
    """(D,) scores."""
    hits: NDArray[np.float64]
    """(D, T) whether the detection is correct at each IoU threshold."""
    misses: NDArray[np.float64]
    """(D, T) whether it is wrong at each IoU threshold."""
    objects: NDArray[np.float64]
    """(N,) number of objects in each image."""

    def precision(self, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """(T, 101) precision at `RECALLS`, 0 beyond the highest recall; `weights` (N,): how often each image counts.
        NaN where there are no objects."""
        total = self.objects.sum() if weights is None else self.objects @ weights
        if not total:
            return np.full((self.hits.shape[1], len(RECALLS)), np.nan)
        each = None if weights is None else weights[self.image][:, None]
        hits, misses = (x.cumsum(0) if each is None else (x * each).cumsum(0) for x in (self.hits, self.misses))
        recall = hits / total
        precision = hits / np.maximum(hits + misses, np.spacing(1))
        highest = np.zeros((len(recall) + 1, hits.shape[1]))
        np.maximum.accumulate(precision[::-1], out=highest[-2::-1])
        return np.stack([highest[recall[:, k].searchsorted(RECALLS), k] for k in range(hits.shape[1])])

    def recall(self) -> NDArray[np.float64]:
        """(D, T) share of all objects that are found with this score as threshold."""
        found: NDArray[np.float64] = self.hits.cumsum(0) / max(1.0, self.objects.sum())
        return found


def ranked(rows: Rows, ious: slice = slice(None)) -> tuple[Ranked, ...]:
    """One record for each class, at these of `IOUS`."""
    classes = int(rows[0, 0])
    n, count, rows = len(rows), (rows.shape[1] - 1 - classes) // FIELDS, rows[:, 1:]
    entries = rows[:, : FIELDS * count].reshape(-1, FIELDS)
    image = np.repeat(np.arange(n), count)
    order = np.argsort(-entries[:, 0], kind="stable")
    entries, image = entries[order], image[order]
    found = []
    for number in range(classes):
        own = entries[:, 1] == number
        bits = entries[own][:, 2:].astype(np.int64)
        hits, nothing = ((bits[:, k, None] >> np.arange(len(IOUS))[ious]) & 1 for k in (0, 1))
        misses = (1 - hits - nothing).astype(np.float64)
        objects = rows[:, FIELDS * count + number]
        found.append(Ranked(image[own], entries[own, 0], hits.astype(np.float64), misses, objects))
    return tuple(found)


def average_precisions(classes: tuple[Ranked, ...], weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """(K, T) average precision at each of `IOUS`; NaN for a class without objects."""
    return np.stack([one.precision(weights).mean(1) for one in classes])


@dataclass(frozen=True)
class RankedHeadline(Headline):
    """Mean average precision, which is no sum of rows: the detections of all images are ranked together. `ious`: the
    range of `IOUS` that counts, its end exclusive."""

    ious: tuple[int, int] = (0, 10)

    def value(self, rows: Rows) -> float:
        """The metric of these images; an image that occurs twice counts twice."""
        return mean_of_known(average_precisions(ranked(rows, slice(*self.ious))))

    def draws(self, rows: Rows, seed: int = 0) -> NDArray[np.float64]:
        """The metric of each of many resamples, drawn with replacement from images or groups."""
        units = drawn_units(self.groups, len(rows))
        classes = ranked(rows, slice(*self.ious))
        draw, n = np.random.default_rng(seed), drawn_count(self.groups, len(rows))
        cost = len(IOUS) * sum(len(one.image) + len(RECALLS) for one in classes)
        weights = (
            np.bincount(draw.integers(0, n, n), minlength=n).astype(float)[units] for _ in range(resamples_for(cost))
        )
        return np.array([mean_of_known(average_precisions(classes, some)) for some in weights])

    def estimate(self, rows: Rows, seed: int = 0) -> Estimate:
        """The metric with its 95 % interval; without an interval for fewer than 20 images, or groups."""
        few = drawn_count(self.groups, len(rows)) < FEW
        return Estimate(self.value(rows), None if few else varying_interval(self.draws(rows, seed)))

    def each(self, rows: Rows) -> NDArray[np.float64]:
        """(N,) the metric of each image alone."""
        return np.array([self.value(rows[k : k + 1]) for k in range(len(rows))], np.float64)
