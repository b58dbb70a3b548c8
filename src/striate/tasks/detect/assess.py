"""The assessment of the detections for a split: metrics by COCO's rules, the threshold, kinds of mistakes, the worst
images.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.boxes import ANGLE, CLASS, CROWD
from striate.data.dataset import SampleFacts
from striate.statistics.estimate import Estimate, estimate_of
from striate.statistics.intervals import drawn_count, drawn_units, resamples_for
from striate.statistics.ranking import mean_of_known
from striate.tasks.detect.average_precision import (
    IOUS,
    MOST,
    RECALLS,
    SCORE,
    Overlaps,
    RankedHeadline,
    average_precisions,
    match,
    ranked,
    rotated_overlaps,
    rows_of,
    upright_overlaps,
)
from striate.tasks.detect.metrics import ClassDetections, DetectionMetrics, ImageDetections
from striate.tasks.evaluation import Evaluation
from striate.tasks.groups import FEWEST, sample_groups, too_few
from striate.tasks.headline import Rows

NEAR = 0.1
"""A wrong detection is badly localized from this IoU with an object, and background below it (Bolya et al. 2020)."""
WORST = 10


def coco_metrics(decoded: NDArray[Any], targets: NDArray[Any], classes: int) -> dict[str, float]:
    """`map`, `map50` and `map75` by faster-coco-eval, for upright boxes; 0 where there are no objects."""
    truth: list[dict[str, Any]] = []
    for image, rows in enumerate(targets):
        for row in rows[rows[:, CLASS] >= 0].astype(np.float64):
            x0, y0, x1, y1 = row[:4].tolist()
            entry = {"image_id": image + 1, "category_id": int(row[CLASS]) + 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            truth.append(entry | {"id": len(truth) + 1, "area": (x1 - x0) * (y1 - y0), "iscrowd": int(row[CROWD])})
    found = [
        {
            "image_id": image + 1,
            "category_id": int(row[CLASS]) + 1,
            "bbox": [float(row[0]), float(row[1]), float(row[2]) - float(row[0]), float(row[3]) - float(row[1])],
            "score": float(row[SCORE]),
        }
        for image, rows in enumerate(decoded)
        for row in rows[rows[:, CLASS] >= 0]
    ]
    return by_coco(truth, found, len(targets), classes, decoded.shape[1])


def by_coco(
    truth: list[dict[str, Any]],
    found: list[dict[str, Any]],
    images: int,
    classes: int,
    most: int,
    kind: str = "bbox",
    size: tuple[int, int] = (0, 0),
) -> dict[str, float]:
    """The metrics of entries in COCO's format. `most`: number of detections per image; `kind`: bbox or segm; `size`:
    (height, width) of the images, for masks."""
    from faster_coco_eval import COCO, COCOeval_faster  # loads only where it is needed

    if not found or all(entry["iscrowd"] for entry in truth):
        return dict.fromkeys(("map", "map50", "map75"), 0.0)
    dataset = {
        "images": [{"id": image + 1, "height": size[0], "width": size[1]} for image in range(images)],
        "categories": [{"id": number + 1, "name": str(number)} for number in range(classes)],
        "annotations": truth,
        "info": {},
    }
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(dataset)
        evaluation = COCOeval_faster(known, known.loadRes(found), kind)
        evaluation.params.maxDets = [1, 10, max(MOST, most)]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {key: max(0.0, float(evaluation.stats[k])) for k, key in enumerate(("map", "map50", "map75"))}


def rotated_metrics(each: NDArray[np.float64]) -> dict[str, float]:
    """`map`, `map50` and `map75` from the average precision of each class (K, T) at `IOUS`."""
    known = {"map": each, "map50": each[:, :1], "map75": each[:, 5:6]}
    return {key: mean_of_known(values) for key, values in known.items()}


def angle_errors(
    decoded: NDArray[Any], targets: NDArray[Any], threshold: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """(H,) angle in degrees between the longer side of each object, at least twice as long as wide, and that
    of the detection that hits it, at IoU 0.5. Detections count from the threshold on, which may be given per image."""
    errors: list[NDArray[np.float64]] = []
    for rows, truth, least in zip(decoded, targets, np.broadcast_to(threshold, len(decoded)), strict=True):
        for number in np.unique(truth[truth[:, CLASS] >= 0, CLASS]):
            own = truth[truth[:, CLASS] == number]
            found = rows[(rows[:, CLASS] == number) & (rows[:, SCORE] >= least)]
            found = found[np.argsort(-found[:, SCORE], kind="stable")]
            hits, _, chose = match(found, own, rotated_overlaps)
            one, other = found[hits[:, 0]], own[chose[hits[:, 0], 0]]
            sides = np.sort(other[:, 2:4] - other[:, :2], 1)
            apart = (_direction(one) - _direction(other))[sides[:, 1] >= 2 * sides[:, 0]]
            errors.append(np.abs((apart + 90) % 180 - 90))
    return np.concatenate(errors) if errors else np.zeros(0)


def _direction(rows: NDArray[Any]) -> NDArray[np.float64]:
    """The direction of the longer sides, in degrees."""
    higher = rows[:, 3] - rows[:, 1] > rows[:, 2] - rows[:, 0]
    turned: NDArray[np.float64] = rows[:, ANGLE].astype(np.float64) + 90.0 * higher
    return turned


class Counts(NamedTuple):
    """Numbers of hits, wrong detections and missed objects at a threshold, each (N,) or one number."""

    hits: Any
    wrong: Any
    missed: Any

    @property
    def precision(self) -> float | None:
        """Share of detections that are hits; None without detections."""
        return float(self.hits / (self.hits + self.wrong)) if self.hits + self.wrong else None

    @property
    def recall(self) -> float | None:
        """Share of objects that are found; None without objects."""
        return float(self.hits / (self.hits + self.missed)) if self.hits + self.missed else None


def counts_of(rows: Rows, threshold: float | NDArray[np.float64]) -> tuple[Counts, NDArray[np.float64]]:
    """Counts (N,) at IoU 0.5 over all classes, and (K, 3) of each class, for detections from the threshold on, which
    may be given per image (N,)."""
    classes, n = ranked(rows), len(rows)
    least = np.broadcast_to(threshold, n)
    each = np.zeros((3, n))
    by_class = np.zeros((len(classes), 3))
    for number, one in enumerate(classes):
        counted = one.scores >= least[one.image]
        hits = np.bincount(one.image[counted], one.hits[counted, 0], n)
        wrong = np.bincount(one.image[counted], one.misses[counted, 0], n)
        parts = np.stack([hits, wrong, one.objects - hits])
        each += parts
        by_class[number] = parts.sum(1)
    return Counts(*each), by_class


def best_threshold(rows: Rows) -> float:
    """The threshold with the highest F1 at IoU 0.5 over all classes together; 0.5 where there is no hit."""
    classes = ranked(rows)
    scores = np.concatenate([one.scores for one in classes])
    order = np.argsort(-scores, kind="stable")
    hits, misses = (np.concatenate([part[:, 0] for part in parts])[order].cumsum() for parts in (
        [one.hits for one in classes], [one.misses for one in classes]
    ))  # fmt: skip
    objects = sum(one.objects.sum() for one in classes)
    if not len(scores) or not hits[-1]:
        return 0.5
    f1 = 2 * hits / (hits + misses + objects)
    last = np.flatnonzero(np.diff(scores[order], append=-1.0))  # no threshold separates equal scores
    place = last[f1[last].argmax()]
    after = scores[order][place + 1] if place + 1 < len(scores) else 0.0
    return float(scores[order][place] + after) / 2


def assess_detections(
    evaluation: Evaluation,
    facts: SampleFacts,
    rows: Rows,
    threshold: float,
    *,
    overlaps: Overlaps = upright_overlaps,
    of: str = "",
) -> DetectionMetrics:
    """The assessment of the detections for a split, whose `rows` these are; `of`: prefix of the names of metrics."""
    n, names = evaluation.n, evaluation.classes
    own_groups = tuple(facts.columns.get("group", ()))
    headline = RankedHeadline(evaluation.shown[0], lambda *_: 0.0, own_groups)
    figures, of_class = _figures(rows, own_groups)
    each, by_class = counts_of(rows, threshold)
    images = [
        ImageDetections(int(evaluation.ids[k]), facts.paths[k], *(int(part[k]) for part in each)) for k in range(n)
    ]
    occurs = [(evaluation.targets[:, :, CLASS] == number).any(1).sum() for number in range(len(names))]
    classes = tuple(
        ClassDetections(name, int(hits + missed), int(occurs[k]), *of_class[k], int(hits), int(wrong), int(missed))
        for k, (name, (hits, wrong, missed)) in enumerate(zip(names, by_class, strict=True))
    )
    groups = sample_groups(facts, n, brightness=evaluation.brightness)
    return DetectionMetrics(
        n=n,
        metrics={f"{of}{name}": figure for name, figure in figures.items()},
        threshold=threshold,
        classes=classes,
        mistakes=mistakes(evaluation.decoded, evaluation.targets, len(names), threshold, overlaps),
        worst=tuple(sorted(images, key=lambda image: (image.f1, -image.missed - image.wrong))[:WORST]),
        slices=headline.slices(groups, rows),
        left_out=too_few(n),
    )


def _figures(rows: Rows, groups: Sequence[str]) -> tuple[dict[str, Estimate], list[tuple[Estimate, Estimate]]]:
    """The metrics over all classes, and (AP, AP50) of each, with intervals by bootstrap over images, or over groups."""
    classes, units = ranked(rows), drawn_units(groups, len(rows))
    n = drawn_count(groups, len(rows))
    whole, draw = average_precisions(classes), np.random.default_rng(0)
    draws = None
    if n >= FEWEST:
        count = resamples_for(len(IOUS) * sum(len(one.image) + len(RECALLS) for one in classes))
        weights = (np.bincount(draw.integers(0, n, n), minlength=n).astype(float)[units] for _ in range(count))
        draws = np.stack([average_precisions(classes, some) for some in weights])

    def mean(ious: slice) -> Estimate:
        drawn = None if draws is None else np.array([mean_of_known(some[:, ious]) for some in draws])
        return estimate_of(mean_of_known(whole[:, ious]), drawn)

    figures = {"map": mean(slice(None)), "map50": mean(slice(0, 1)), "map75": mean(slice(5, 6))}
    of_class = [
        (
            estimate_of(float(whole[k].mean()), None if draws is None else draws[:, k].mean(1)),
            estimate_of(float(whole[k, 0]), None if draws is None else draws[:, k, 0]),
        )
        for k in range(len(classes))
    ]
    return figures, of_class


def mistakes(
    decoded: NDArray[Any],
    targets: NDArray[Any],
    classes: int,
    threshold: float,
    overlaps: Overlaps = upright_overlaps,
) -> Mapping[str, Mapping[str, float | None]]:
    """For each kind of mistake: its `count` among the predictions from the threshold on, and its `gain`, by how much
    mAP at IoU 0.5 would rise without it (None where all objects are missed, so that none would be left).

    Bolya et al., "TIDE: a general toolbox for identifying object detection errors", ECCV 2020: a wrong detection is of
    another `class`, badly placed (`localization`), `both`, a `duplicate`, or `background`; objects to which no
    detection is assigned are `missed`. For the gain, the class or the box is corrected, unless the object is found
    already; all other wrong detections, and missed objects, are removed.
    """
    predicted = np.where((decoded[:, :, SCORE] >= threshold)[..., None], decoded, np.array([0, 0, 0, 0, -1, 0] + [0] * (
        decoded.shape[2] - 6
    )))  # fmt: skip
    kinds = ("class", "localization", "both", "duplicate", "background", "missed")
    found: dict[str, int] = dict.fromkeys(kinds, 0)
    fixed = {kind: (predicted.copy(), targets.copy()) for kind in kinds}
    for image, (rows, truth) in enumerate(zip(predicted, targets, strict=True)):
        places = np.flatnonzero(rows[:, CLASS] >= 0)
        places = places[np.argsort(-rows[places, SCORE], kind="stable")]
        objects = np.flatnonzero(truth[:, CLASS] >= 0)
        wrong, owned = classify_mistakes(rows[places], truth[objects], overlaps)
        claimed: dict[str, set[int]] = {"class": set(), "localization": set()}
        for place, kind, object_ in wrong:
            found[kind] += 1
            row = fixed[kind][0][image, places[place]]
            if kind in claimed and object_ not in owned | claimed[kind]:
                claimed[kind].add(object_)
                row[CLASS], row[:4] = truth[objects[object_], CLASS], truth[objects[object_], :4]
                row[ANGLE:] = truth[objects[object_], ANGLE:]
            else:
                row[CLASS] = -1
        meant = owned.union(*claimed.values())
        for object_ in range(len(objects)):
            if object_ not in meant and truth[objects[object_], CROWD] == 0:
                found["missed"] += 1
                fixed["missed"][1][image, objects[object_], CLASS] = -1
    base = map50_of(predicted, targets, classes, overlaps)
    gains: dict[str, float | None] = {
        kind: map50_of(*fixed[kind], classes, overlaps) - base if found[kind] else 0.0 for kind in kinds
    }
    left = fixed["missed"][1]
    if found["missed"] and not ((left[:, :, CLASS] >= 0) & (left[:, :, CROWD] == 0)).any():
        gains["missed"] = None
    return {kind: {"count": found[kind], "gain": gains[kind]} for kind in kinds}


def classify_mistakes(
    found: NDArray[Any], objects: NDArray[Any], overlaps: Overlaps
) -> tuple[list[tuple[int, str, int]], set[int]]:
    """For one image: each wrong detection with its kind and the object that it is assigned to, and which objects are
    found (at IoU 0.5)."""
    right = np.zeros(len(found), np.bool_)
    owned: set[int] = set()
    for number in np.unique(found[:, CLASS]):
        mine, own = np.flatnonzero(found[:, CLASS] == number), np.flatnonzero(objects[:, CLASS] == number)
        hits, nothing, chose = match(found[mine], objects[own], overlaps)
        right[mine] = hits[:, 0] | nothing[:, 0]
        owned |= {int(own[k]) for k in chose[hits[:, 0], 0]}
    if not len(objects):
        return [(place, "background", -1) for place in range(len(found))], owned
    iou = overlaps(found, objects) * (objects[:, CROWD] == 0)
    same = found[:, CLASS, None] == objects[None, :, CLASS]
    wrong = []
    for place in np.flatnonzero(~right).tolist():
        own, other = np.where(same[place], iou[place], -1.0), np.where(same[place], -1.0, iou[place])
        if own.max() >= IOUS[0]:
            kind, which = "duplicate", own.argmax()
        elif other.max() >= IOUS[0]:
            kind, which = "class", other.argmax()
        elif own.max() >= NEAR:
            kind, which = "localization", own.argmax()
        else:
            kind, which = ("both" if other.max() >= NEAR else "background"), other.argmax()
        wrong.append((place, kind, int(which)))
    return wrong, owned


def map50_of(
    decoded: NDArray[Any], targets: NDArray[Any], classes: int, overlaps: Overlaps = upright_overlaps
) -> float:
    """mAP at IoU 0.5."""
    return mean_of_known(average_precisions(ranked(rows_of(decoded, targets, classes, overlaps)))[:, 0])
