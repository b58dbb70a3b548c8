"""Typical mistakes of detectors that predictions show."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.boxes import CLASS, CROWD
from striate.records import Finding, Remedy
from striate.tasks.detect.assess import classify_mistakes, map50_of
from striate.tasks.detect.average_precision import SCORE, overlaps_for
from striate.tasks.evaluation import Evaluation
from striate.wording import percent, several

NOTHING, HEARD, SURE, PLACED = 0.01, 0.05, 0.5, 0.2
"""mAP at IoU 0.5 below which nothing is found; a score that is never a prediction, and one that always is; mAP from
which objects count as found regardless of class, or with boxes in another format."""
_LONGER_FIRST = "Train for longer: --minutes 10. If that does not help, check the boxes: striate data check."

_Boxes = NDArray[Any]
_AT_MOST = 500


def _readings(targets: _Boxes, size: tuple[int, int]) -> dict[str, _Boxes]:
    """Other formats that the boxes of a split may have been written in, in words, with the targets in each format."""
    (height, width), edges, rest = size, targets[..., :4], targets[..., 4:]
    x0, y0, x1, y1 = (edges[..., k] for k in range(4))
    half = np.tile((edges[..., 2:] - edges[..., :2]) / 2, 2)
    otherwise = {
        "with x and y exchanged": edges[..., [1, 0, 3, 2]],
        "moved left and up by half of their size": edges - half,
        "moved right and down by half of their size": edges + half,
        "mirrored from left to right": np.stack([width - x1, y0, width - x0, y1], -1),
        "upside down": np.stack([x0, height - y1, x1, height - y0], -1),
    }
    return {
        "replaced by the boxes of the image before it": np.roll(targets, 1, axis=0),
        "replaced by the boxes of the image after it": np.roll(targets, -1, axis=0),
        **{what: np.concatenate([changed, rest], axis=-1) for what, changed in otherwise.items()},
    }


def nothing_found(evaluation: Evaluation, size: tuple[int, int]) -> tuple[Finding, ...]:
    """`fit.nothing-found` where hardly any detection hits, with the likely cause; inputs have (height, width)
    `size`."""
    if evaluation.metrics["map50"] >= NOTHING:
        return ()
    measured, why, remedy = _why_nothing(evaluation.decoded, evaluation.targets, size)
    return (
        Finding(
            code="fit.nothing-found",
            severity="warning",
            where=f"{evaluation.split} split",
            measured=f"mAP at IoU 0.5 is {percent(evaluation.metrics['map50'])}; {measured}",
            threshold=percent(NOTHING),
            why=why,
            remedy=remedy,
        ),
    )


def _why_nothing(decoded: _Boxes, targets: _Boxes, size: tuple[int, int]) -> tuple[str, str, str]:
    """The measurement of detections that hit nothing, its likely cause, and the remedy."""
    best = float(decoded[..., SCORE].max(initial=0.0))
    if best < HEARD:
        why = "The network cannot yet distinguish objects from background."
        return f"the highest score is {best:.2g}", why, "Train for longer: --minutes 10."
    found, truth = decoded[:_AT_MOST].copy(), targets[:_AT_MOST].copy()
    for rows in (found, truth):
        rows[..., CLASS] = np.minimum(rows[..., CLASS], 0)
    overlaps = overlaps_for(found, truth)
    anywhere = map50_of(found, truth, 1, overlaps)
    measured = f"regardless of class, it is {percent(anywhere)}"
    if anywhere >= PLACED:
        why = "Objects are found with wrong classes: class numbers may be exchanged, or off by one."
        return measured, why, "Look at objects with their classes: striate data show."
    otherwise = {what: map50_of(found, changed, 1, overlaps) for what, changed in _readings(truth, size).items()}
    what = max(otherwise, key=lambda one: otherwise[one])
    if otherwise[what] >= PLACED:
        why = "The boxes of this split have another format than the boxes of training, or belong to other images."
        measured += f"; if the boxes of each image are {what}, {percent(otherwise[what])}"
        return measured, why, "Compare images of both splits with their boxes: striate data show."
    elsewhere = "the boxes miss the objects: they belong to other images, or have another format than the expected one"
    if best < SURE:
        why = f"No score is high enough for a prediction: the network has hardly learned, or {elsewhere}."
        return f"{measured}; the highest score is {best:.2g}", why, _LONGER_FIRST
    return (
        measured,
        f"{elsewhere.capitalize()}.",
        "Check them: striate data check. If it finds nothing, train for longer.",
    )


FEWEST, LARGE_FOUND, SHARE = 20, 0.5, 0.5
"""Smallest number of objects in a third; the recall of the largest third from which the smallest third is compared with
it; and the share of that recall below which there is a finding."""


def small_missed(evaluation: Evaluation, size: tuple[int, int], threshold: float) -> tuple[Finding, ...]:
    """`fit.small-missed` where the smallest third of objects is hardly found, and the largest is."""
    sides: list[float] = []
    hits: list[bool] = []
    overlaps = overlaps_for(evaluation.decoded, evaluation.targets)
    for rows, truth in zip(evaluation.decoded, evaluation.targets, strict=True):
        rows = rows[(rows[:, CLASS] >= 0) & (rows[:, SCORE] >= threshold)]
        objects = truth[truth[:, CLASS] >= 0]
        _, owned = classify_mistakes(rows[np.argsort(-rows[:, SCORE], kind="stable")], objects, overlaps)
        for number, row in enumerate(objects):
            if row[CROWD] == 0:
                sides.append(float(np.sqrt(max(0.0, (row[2] - row[0]) * (row[3] - row[1])))))
                hits.append(number in owned)
    third = len(sides) // 3
    if third < FEWEST:
        return ()
    order = np.argsort(sides, kind="stable")
    found = np.array(hits)[order]
    small, large = float(found[:third].mean()), float(found[-third:].mean())
    if large < LARGE_FOUND or small >= SHARE * large:
        return ()
    limit, height, width = sides[int(order[third - 1])], *size
    grown = [round(side * 1.5 / 32) * 32 for side in (height, width)]
    finding = Finding(
        code="fit.small-missed",
        severity="warning",
        where=f"{evaluation.split} split",
        measured=f"recall is {percent(small)} for the {several(third, 'smallest object')} (up to {limit:.0f} pixels in "
        f"inputs of {height} × {width}), {percent(large)} for the {third} largest",
        threshold=f"{percent(SHARE)} of the recall of the largest",
        why="Small objects cover too few positions of the finest feature map of the network.",
        remedy=Remedy(
            "Train on larger images, or use a network with finer feature maps.",
            settings={"data.size": grown},
            advice="a network with finer feature maps",
        ),
    )
    return (finding,)
