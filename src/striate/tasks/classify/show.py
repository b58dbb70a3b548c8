"""A classification in pictures, tables and sections of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.drawn_inputs import SIDE as DRAWN_SIDE
from striate.data.drawn_inputs import DrawnInputs
from striate.statistics.estimate import Estimate, plain
from striate.tasks.classify.metrics import ClassificationMetrics, confusion_matrix, runner_up
from striate.tasks.evaluation import Evaluation
from striate.tasks.show import CHART_DPI, PHOTO_DPI, ROWS, Images, Row, random_positions, share_cells, split_text
from striate.visualize.canvas import save_figure, shorten
from striate.visualize.charts import chart
from striate.visualize.classification_charts import COUNTED, confusion_figure, draw_precision_recall, draw_roc
from striate.visualize.gallery import SIDE, Tile, encode, gallery_figure
from striate.visualize.page_parts import Picture, SampleTile, Section, Table
from striate.visualize.themed_svg import themed_svg
from striate.wording import percent, several

SHOWN = 15
"""Number of samples of a gallery."""
MATRIX = 20
"""Largest number of classes for which the confusion matrix is a table; for more classes, its mistakes are listed."""


def class_table(figures: ClassificationMetrics, of: str) -> Table:
    """A row for each class, with 95 % intervals."""
    columns = ("class", "n", *_with_intervals("precision", "recall", "F1"))
    rows: list[Row] = []
    for row in figures.classes:
        cells = (cell for figure in (row.precision, row.recall, row.f1) for cell in share_cells(figure))
        rows.append((row.name, row.n, *cells))
    return Table(f"Each class, {of}", columns, tuple(rows))


def _with_intervals(*heads: str) -> tuple[str, ...]:
    return tuple(part for head in heads for part in (head, "95 % interval"))


def _areas_table(figures: ClassificationMetrics, of: str) -> Table:
    """The areas under the curves of each class."""
    rows: list[Row] = []
    for row in figures.classes:
        shown = (row.auc or Estimate(None), row.average_precision or Estimate(None))
        rows.append((row.name, *(cell for figure in shown for cell in share_cells(figure))))
    return Table(f"Areas, {of}", ("class", *_with_intervals("ROC AUC", "average precision")), tuple(rows))


def confused_table(figures: ClassificationMetrics, of: str) -> Table | None:
    """The most confused pairs; None where there is no mistake."""
    rows = tuple((pair.true, pair.predicted, pair.n, *share_cells(pair.share)) for pair in figures.confused)
    columns = ("true class", "predicted class", "samples", "share of the true class", "95 % interval")
    return Table(f"Most confused pairs, {of}", columns, rows) if rows else None


def averages_table(figures: ClassificationMetrics, of: str) -> Table:
    """The metrics over all classes."""
    rows = tuple((name.replace("_", " "), *share_cells(figure)) for name, figure in figures.metrics.items())
    return Table(f"Over all classes, {of}", ("metric", "value", "95 % interval"), rows)


def decision_sections(figures: ClassificationMetrics, of: str) -> tuple[Section, ...]:
    """What the rule of costs or thresholds changes, where there is one."""
    effect = figures.decision
    if effect is None:
        return ()
    rows = tuple(
        (name, *share_cells(before), n_before, *share_cells(after), n)
        for name, before, n_before, after, n in effect.rows()
    )
    columns = ("metric", *_with_intervals("most probable class"), "n", *_with_intervals("by the rule"), "n")
    differing = f"{effect.differing:,} of {several(effect.n, 'prediction')} differ from the most probable class"
    table = Table(f"Effect of the rule, {of}", columns, rows)
    rule = f"The prediction is {effect.rule}. {differing}."
    return (Section("Costs and thresholds", sentences=(rule,), tables=(table,)),)


def thresholds_sections(figures: ClassificationMetrics, of: str) -> tuple[Section, ...]:
    """ROC and precision–recall curves, and points of them in numbers."""
    if not figures.curves:
        return ()
    curves, classes = plain(figures.curves), plain(figures.classes)
    charts = (
        chart(lambda axes: draw_roc(axes, curves, classes), f"ROC curve of each class against the rest, {of}", 3.4),
        chart(lambda axes: draw_precision_recall(axes, curves, classes), f"Precision against recall, {of}", 3.4),
    )
    false, found = (0.01, 0.05, 0.1), (0.5, 0.8, 0.95)
    columns = (
        "class",
        *(f"recall at {100 * rate:g} % false positives" for rate in false),
        *(f"precision at {100 * rate:g} % recall" for rate in found),
    )
    rows = tuple(
        (
            curve.name,
            *(percent(_at(rate, curve.false_positive_rate, curve.true_positive_rate)) for rate in false),
            *(percent(_at(rate, curve.recall, curve.precision)) for rate in found),
        )
        for curve in figures.curves
    )
    points = Table(f"Points, {of}", columns, rows)
    caption = (
        f"{of}. Each class against the rest, over all thresholds on its probability. With more than six classes, only"
        " the four with the lowest average precision are named; the table has the areas of all."
    )
    return (Section("Thresholds", charts=charts, caption=caption, behind=(points, _areas_table(figures, of))),)


def _at(place: float, x: Sequence[float], y: Sequence[float]) -> float:
    """The height of a curve between its points, which may come in either order."""
    order = np.argsort(np.asarray(x), kind="stable")
    return float(np.interp(place, np.asarray(x)[order], np.asarray(y)[order]))


def confusion_picture(folder: Path, evaluation: Evaluation, title: str) -> Picture:
    """`confusion.png`."""
    assert evaluation.confusion is not None
    figure = confusion_figure(evaluation.confusion, evaluation.classes, title=title)
    path = save_figure(figure, folder / "confusion.png", CHART_DPI)
    what = "numbers are counts, an empty cell is 0" if len(evaluation.classes) <= COUNTED else "no counts shown"
    caption = f"{title}. Rows: true class; columns: predicted class; the darker, the larger the share; {what}."
    # For few classes, the page shows the matrix as a table.
    panels = () if len(evaluation.classes) <= MATRIX else (themed_svg(figure, caption),)
    return Picture("Confusion matrix", caption, path, "confusion", panels)


def predicted_by(evaluation: Evaluation) -> NDArray[np.int64]:
    """(N,) the classes that are predicted."""
    assert evaluation.predicted is not None, "of a classification"
    return evaluation.predicted


def galleries(
    folder: Path, evaluation: Evaluation, images: Images, title: str, names: Sequence[str]
) -> tuple[Picture, ...]:
    """The most confident mistakes, the least confident correct predictions, and some at random."""
    predicted = predicted_by(evaluation)
    sure = evaluation.decoded[np.arange(evaluation.n), predicted]
    right = predicted == evaluation.targets
    wrong, hits, drawn = np.flatnonzero(~right), np.flatnonzero(right), random_positions(evaluation.n, SHOWN)
    mistakes = wrong[np.argsort(-sure[wrong], kind="stable")[:SHOWN]]
    lead = sure[hits] - runner_up(evaluation.decoded[hits], predicted[hits])[1]
    unsure = hits[np.argsort(lead, kind="stable")[:SHOWN]]
    marks = "✓ correct; ✗ and a thick frame: wrong, with the true class. The percentage is the predicted probability."
    galleries = (
        ("Drawn at random", "samples.png", drawn, f"{len(drawn)} drawn at random. {marks}"),
        ("Most confident mistakes", "mistakes.png", mistakes,
         f"the {len(mistakes)} of {several(len(wrong), 'mistake')} with the highest confidence: look here for "
         "wrong labels."),
        ("Least confident correct predictions", "unsure.png", unsure, f"the {len(unsure)} of "
         f"{several(len(hits), 'correct prediction')} with the smallest margin over the second class: more samples "
         "like these would help."),
    )  # fmt: skip
    pictures, drawn_for_it = [], isinstance(images, DrawnInputs)  # drawn inputs have text in them
    for name, file, chosen, caption in galleries:
        if len(chosen):
            pixels = np.asarray(images[chosen])
            figure = gallery_figure(_tiles(evaluation, pixels, chosen), title=f"{title}: {name.lower()}")
            path = save_figure(figure, folder / file, CHART_DPI if drawn_for_it else PHOTO_DPI)
            side = DRAWN_SIDE if drawn_for_it else SIDE
            tiles = sample_tiles(evaluation, pixels, chosen, names, runner_up=chosen is unsure, side=side)
            pictures.append(Picture(name, f"{title}; {caption}", path, "samples", tiles=tiles))
    return tuple(pictures)


def _tiles(evaluation: Evaluation, pixels: NDArray[np.uint8], chosen: NDArray[np.int64]) -> list[Tile]:
    tiles = []
    predicted = predicted_by(evaluation)
    for place, image in zip(chosen, pixels, strict=True):
        chosen_class, true = int(predicted[place]), int(evaluation.targets[place])
        probability = float(evaluation.decoded[place, chosen_class])
        names = evaluation.classes
        tiles.append(Tile(image, names[chosen_class], probability, names[true], chosen_class == true))
    return tiles


def recall_table(evaluation: Evaluation) -> Table:
    """A row a class."""
    columns = ("class", "n", "precision", "recall", "95 % interval of the recall", "F1")
    rows = []
    for row in evaluation.per_class:
        interval = row.recall_interval
        shown = "–" if row.recall is None else f"{percent(interval.low)} to {percent(interval.high)}"
        rows.append((row.name, row.n, percent(row.precision), percent(row.recall), shown, percent(row.f1)))
    return Table(f"Each class, {split_text(evaluation)}", columns, tuple(rows))


def confusion_table(evaluation: Evaluation) -> Table:
    """The confusion matrix for few classes, the mistakes by frequency for many."""
    assert evaluation.confusion is not None
    if len(evaluation.classes) <= MATRIX:
        rows = tuple(
            (name, *counts) for name, counts in zip(evaluation.classes, evaluation.confusion.tolist(), strict=True)
        )
        caption = f"Rows: true class; columns: predicted class; {split_text(evaluation)}"
        # Only rows have full names: columns of counts are too narrow for them.
        columns = ("true", *(shorten(name, 24) for name in evaluation.classes))
        return Table(caption, columns, rows, shades(evaluation.confusion))
    wrong = evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    pairs = np.argwhere(wrong)
    pairs = pairs[np.argsort(-wrong[tuple(pairs.T)], kind="stable")]
    names = evaluation.classes
    listed = tuple((names[true], names[other], int(wrong[true, other])) for true, other in pairs[:ROWS])
    caption = (
        f"The {len(listed):,} most frequent of {several(len(pairs), 'kind')} of mistakes, {split_text(evaluation)}"
    )
    return Table(caption, ("true class", "predicted class", "count"), listed)


def shades(counts: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    """The shade of each count, from 0 for none to 10 for all of its row."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return tuple(tuple(row) for row in np.ceil(10 * shares).astype(int).tolist())


def sample_tiles(
    evaluation: Evaluation,
    pixels: NDArray[np.uint8],
    chosen: NDArray[np.int64],
    names: Sequence[str] = (),
    *,
    runner_up: bool = False,
    side: int = SIDE,
) -> tuple[SampleTile, ...]:
    """The samples at the positions `chosen` of a classification; `pixels` (len(chosen), C, H, W) with 1 or 3 channels.
    `names` of all samples of the split, such as their paths; with `runner_up`, each has its second most probable
    class."""
    tiles, chosen_classes = [], predicted_by(evaluation)
    for place, image in zip(chosen, pixels, strict=True):
        shares, true = evaluation.decoded[place], int(evaluation.targets[place])
        chosen_class = int(chosen_classes[place])
        others = [int(k) for k in np.argsort(-shares, kind="stable")[:2] if k != chosen_class][:1]
        predicted, *after = (f"{evaluation.classes[k]}, {percent(float(shares[k]))}" for k in (chosen_class, *others))
        name = names[place] if len(names) else f"sample {int(evaluation.ids[place])}"
        png, width, height, enlarged = encode(image, side)
        tiles.append(
            SampleTile(
                png,
                width,
                height,
                enlarged,
                name,
                predicted,
                evaluation.classes[true],
                chosen_class == true,
                after[0] if runner_up and after else "",
            )
        )
    return tuple(tiles)


def tables(evaluation: Evaluation, figures: ClassificationMetrics | None) -> dict[str, Table | None]:
    """The tables of the report; with the metrics of evaluation.json, there are more."""
    found: dict[str, Table | None] = {"confusion": confusion_table(evaluation)}
    if figures is None:
        return found | {"classes": recall_table(evaluation)}
    of = split_text(evaluation)
    return found | {
        "averages": averages_table(figures, of),
        "confused": confused_table(figures, of),
        "classes": class_table(figures, of),
    }


def pooled_confusion(
    folder: Path, truth: NDArray[Any], predicted: NDArray[Any], classes: Sequence[str], title: str, of: str
) -> tuple[Picture, Table | None]:
    """`confusion.png` of the pooled predictions of a cross-validation, and its counts."""
    counts = confusion_matrix(truth, predicted, len(classes))
    figure = confusion_figure(counts, classes, title=title)
    path = save_figure(figure, folder / "confusion.png", CHART_DPI)
    caption = f"{of}. Rows: true class; columns: prediction of the fold that held the sample out; numbers are samples."
    picture = Picture("Confusion matrix", caption, path, "confusion", (themed_svg(figure, caption),))
    if len(classes) > MATRIX:
        return picture, None
    rows = tuple((name, *row) for name, row in zip(classes, counts.tolist(), strict=True))
    columns = ("true", *(shorten(name, 24) for name in classes))
    return picture, Table(f"Rows: true class; columns: prediction; {of}", columns, rows, shades(counts))
