"""Detections in pictures, tables and sections of the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.boxes import CLASS
from striate.tasks.detect.assess import NEAR, counts_of
from striate.tasks.detect.average_precision import IOUS, RECALLS, SCORE, match, overlaps_for, ranked
from striate.tasks.detect.metrics import AVERAGES, KINDS, DetectionMetrics
from striate.tasks.evaluation import Evaluation
from striate.tasks.show import CHART_DPI, Images, Row, ranked_pictures, share_cells, split_text
from striate.visualize.box_pictures import DrawnBox, boxes_figure, draw_precision_recall, drawn_picture
from striate.visualize.canvas import figure_of, of_split, save_figure
from striate.visualize.page_parts import Picture, Section, Table
from striate.visualize.themed_svg import themed_svg
from striate.wording import formatted, number, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from striate.tasks.detect.task import Detect


def detection_pictures(
    folder: Path,
    evaluation: Evaluation,
    images: Images | None,
    task: Detect,
    names: Sequence[str],
    draw: Callable[[Any, str, list[str]], Figure] | None = None,
) -> tuple[Picture, ...]:
    """The images with the lowest F1 at the threshold, around its median, and with the highest; and precision by
    recall. `draw(chosen, title, labels)` draws a figure of samples, instead of one with boxes."""
    title = of_split(evaluation.data, evaluation.split, evaluation.n)
    rows = task.rows_of(evaluation)
    each, _ = counts_of(rows, task.threshold)
    whole = 2 * each.hits + each.wrong + each.missed
    f1 = np.divide(2 * each.hits, whole, out=np.ones(evaluation.n), where=whole > 0)
    # Among equal images, those with more objects show more.
    order = np.lexsort((each.hits + each.missed, f1))

    def figure_of_samples(chosen: NDArray[np.int64], title: str) -> Figure:
        labels = [f"F1 {percent(float(f1[k]))}" for k in chosen]
        if draw is not None:
            return draw(chosen, title, labels)
        assert images is not None
        drawn = [both_drawn(evaluation.decoded[k], evaluation.targets[k], task) for k in chosen]
        truths, found = ([both[side] for both in drawn] for side in (0, 1))
        return boxes_figure(np.asarray(images[chosen]), truths, found, evaluation.classes, title=title, labels=labels)

    pictures: tuple[Picture, ...] = ()
    if images is not None:
        choices = ("images with the lowest F1: look here for wrong boxes", "images around the median F1",
                "images with the highest F1")  # fmt: skip
        note = f"; predictions with a score of at least {task.threshold:.2f}."
        pictures = ranked_pictures(
            folder, evaluation, order, figure_of_samples, choices=choices, note=note, names=names, shown=3
        )
    curves = [(name, one.precision()[0]) for name, one in zip(evaluation.classes, ranked(rows), strict=True)]
    known = [(name, curve) for name, curve in curves if not np.isnan(curve).any()]
    figure = figure_of(lambda axes: draw_precision_recall(axes, RECALLS, known), 5.0, 3.6, title)
    path = save_figure(figure, folder / "precision_recall.png", CHART_DPI)
    of = f"{title}. Precision at each recall, at IoU 0.5; the area under a line is the AP50 of its class."
    return (*pictures, Picture("Precision and recall", of, path, "samples", (themed_svg(figure, of),)))


def both_drawn(decoded: NDArray[Any], truth: NDArray[Any], task: Detect) -> tuple[list[DrawnBox], list[DrawnBox]]:
    """Objects and predictions of one image; missed objects and wrong predictions (at IoU 0.5) are marked."""
    found = decoded[(decoded[:, CLASS] >= 0) & (decoded[:, SCORE] >= task.threshold)]
    objects = truth[truth[:, CLASS] >= 0]
    right, seen = np.zeros(len(found), np.bool_), np.zeros(len(objects), np.bool_)
    for kind in np.unique(found[:, CLASS]):
        mine, own = np.flatnonzero(found[:, CLASS] == kind), np.flatnonzero(objects[:, CLASS] == kind)
        _, _, chose = match(found[mine], objects[own], overlaps_for(found, objects))
        right[mine] = chose[:, 0] >= 0
        seen[own[chose[chose[:, 0] >= 0, 0]]] = True
    return (
        [_drawn(row, "", not known) for row, known in zip(objects, seen, strict=True)],
        [_drawn(row, f"{100 * row[SCORE]:.0f}", not known) for row, known in zip(found, right, strict=True)],
    )


def named_box(row: NDArray[Any], task: Detect) -> DrawnBox:
    """The box of a prediction (6,), or a rotated one (7,), with its class and score."""
    return _drawn(row, f"{task.classes[int(row[CLASS])]} {percent(row[SCORE], 0)}", False)


def _drawn(row: NDArray[Any], text: str, wrong: bool) -> DrawnBox:
    left, top, right, bottom = map(float, row[:4])
    return DrawnBox((left, top, right, bottom), int(row[CLASS]), text, wrong, float(row[6]) if len(row) > 6 else 0.0)


def picture_of(
    image: NDArray[np.uint8], shown: NDArray[Any], truth: NDArray[Any] | None, task: Detect
) -> NDArray[np.uint8]:
    """The image (C, H, W) with objects, or predictions from the threshold on, over it: (H, W, 3)."""
    shown = shown[shown[:, CLASS] >= 0]
    if truth is not None:
        boxes = [box._replace(text="wrong" if box.wrong else "") for box in both_drawn(shown, truth, task)[1]]
    # The column of predictions has scores; that of objects, whether they are crowds.
    elif len(shown) and not np.isin(shown[:, SCORE], (0, 1)).all():
        predicted = shown[shown[:, SCORE] >= task.threshold]
        boxes = [named_box(row, task) for row in predicted]
    else:
        boxes = [_drawn(row, task.classes[int(row[CLASS])], False) for row in shown]
    return drawn_picture(image, boxes, task.classes)


def tables(evaluation: Evaluation, figures: DetectionMetrics) -> dict[str, Table | None]:
    """Tables over all classes, and of each class."""
    of = split_text(evaluation)
    columns = ("class", "objects", "images", "AP", "95 % interval", "AP50", "95 % interval", "found", "wrong", "missed")
    rows: tuple[Row, ...] = tuple(
        (
            row.name,
            row.objects,
            row.images,
            *share_cells(row.ap),
            *share_cells(row.ap50),
            row.hits,
            row.wrong,
            row.missed,
        )
        for row in figures.classes
    )
    overall = tuple((AVERAGES[name], *share_cells(figure)) for name, figure in figures.metrics.items())
    caption = f"Each class, {of}; found, wrong and missed at a score of {number(round(figures.threshold, 3))}"
    return {
        "averages": Table(f"Over all classes, {of}", ("metric", "value", "95 % interval"), overall),
        "classes": Table(caption, columns, rows),
    }


def mistakes_section(figures: DetectionMetrics, of: str) -> tuple[Section, ...]:
    """The kinds of mistakes, and what each costs."""
    if not any(found["count"] for found in figures.mistakes.values()):
        return ()
    rows: tuple[Row, ...] = tuple(
        (
            KINDS[kind],
            int(found["count"] or 0),
            "–" if (gain := found["gain"]) is None else formatted(100 * gain, "+.2f"),
        )
        for kind, found in figures.mistakes.items()
    )
    gains = {kind: found["gain"] for kind, found in figures.mistakes.items()}
    known = {kind: 100 * gain for kind, gain in gains.items() if gain is not None}
    costly = max(known, key=lambda kind: known[kind])
    sentence = (
        f"Most costly: {KINDS[costly]}; without these, mAP at IoU 0.5 would be {known[costly]:.1f} points higher."
    )
    if len(known) < len(gains):
        sentence = (
            f"No object is found at a score of {figures.threshold:.2f}: no detection has an IoU of {IOUS[0]} with an"
            f" object, or its class and an IoU of {NEAR} with it."
        )
    sentences = [sentence]
    if half := figures.half_labeled:
        named = ", ".join(half[:5])
        sentences.append(
            f"In {named}, more objects are found without a label than with one: they may be partly labeled."
        )
    table = Table(f"Mistakes among the predictions, {of}", ("kind", "number", "points of mAP50"), rows)
    return (Section("Kinds of mistakes", tuple(sentences), (table,), caption="Sorted as in TIDE (Bolya et al. 2020)."),)
