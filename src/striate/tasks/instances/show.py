"""Instances in pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.boxes import CLASS
from striate.tasks.detect.average_precision import SCORE, match
from striate.tasks.detect.show import detection_pictures, named_box
from striate.tasks.evaluation import Evaluation
from striate.tasks.instances.decode import instance_map
from striate.tasks.instances.overlap import MaskOverlaps
from striate.tasks.show import Images
from striate.visualize.box_pictures import drawn_picture
from striate.visualize.instance_pictures import instances_figure, outlined
from striate.visualize.page_parts import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from striate.tasks.instances.task import Instances


def predicted_instances(decoded: NDArray[Any], task: Instances) -> NDArray[Any]:
    """The detections of an image (D, WIDTH) whose score reaches the threshold."""
    chosen: NDArray[Any] = decoded[(decoded[:, CLASS] >= 0) & (decoded[:, SCORE] >= task.threshold)]
    return chosen


def picture_of(
    image: NDArray[np.uint8], shown: NDArray[Any], truth: NDArray[Any] | None, task: Instances
) -> NDArray[np.uint8]:
    """The image (C, H, W) with objects (H, W), or predictions (D, WIDTH), over it: (H, W, 3). Without `truth`,
    predictions have their boxes, classes and scores."""
    if shown.dtype.kind != "f":
        return outlined(image, _in_turns(shown, task.outputs))
    found = predicted_instances(shown, task)
    numbers = instance_map(found, (image.shape[1], image.shape[2]))
    if truth is not None:
        return outlined(image, numbers, _wrong(found, truth, task)[0])
    boxes = [named_box(row[: SCORE + 1], task) for row in found]
    return drawn_picture(outlined(image, numbers).transpose(2, 0, 1), boxes, task.classes)


def _in_turns(target: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Values of a target as numbers of objects, from 1."""
    numbers: NDArray[np.int64] = np.where(target > 0, 1 + (target.astype(np.int64) - 1) // (2 * classes), 0)
    return numbers


def _wrong(found: NDArray[Any], truth: NDArray[Any], task: Instances) -> tuple[list[int], list[int]]:
    """Numbers, from 1, of predictions that hit no object at IoU 0.5, and of objects, in the order of `_in_turns`, that
    no prediction hits."""
    overlaps = MaskOverlaps(found[None], truth[None], task.outputs)
    rows, objects = overlaps.found[0], overlaps.objects[0]
    objects = objects[objects[:, CLASS] >= 0]
    right, seen = np.zeros(len(rows), np.bool_), np.zeros(len(objects), np.bool_)
    for kind in np.unique(rows[:, CLASS]):
        mine, own = np.flatnonzero(rows[:, CLASS] == kind), np.flatnonzero(objects[:, CLASS] == kind)
        _, _, chose = match(rows[mine], objects[own], overlaps)
        right[mine] = chose[:, 0] >= 0
        seen[own[chose[chose[:, 0] >= 0, 0]]] = True
    numbers = np.unique(_in_turns(truth, task.outputs))
    return (np.flatnonzero(~right) + 1).tolist(), numbers[numbers > 0][~seen].tolist()


def instance_pictures(
    folder: Path, evaluation: Evaluation, images: Images | None, task: Instances, names: Sequence[str]
) -> tuple[Picture, ...]:
    """The pictures of `detection_pictures`, with masks."""

    def draw(chosen: Any, title: str, labels: list[str]) -> Figure:
        assert images is not None
        rows = []
        for place, image in zip(chosen, np.asarray(images[chosen]), strict=True):
            truth, found = evaluation.targets[place], predicted_instances(evaluation.decoded[place], task)
            wrong, missed = _wrong(found, truth, task)
            size = (image.shape[1], image.shape[2])
            pictured = (
                outlined(image, _in_turns(truth, task.outputs), missed),
                outlined(image, instance_map(found, size), wrong),
            )
            rows.append((image, *pictured))
        return instances_figure(rows, title=title, labels=labels)

    return detection_pictures(folder, evaluation, images, task, names, draw)
