"""Everything that follows from class probabilities for a split, and the table of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from striate.data.dataset import SampleFacts
from striate.statistics.calibration import Temperature, measure_calibration, with_temperature
from striate.statistics.intervals import wilson
from striate.tasks.classify.averages import average_figures
from striate.tasks.classify.by_class import MOST_RANKED, class_figures, confused_pairs, rank_curves
from striate.tasks.classify.figures import ClassificationFigures
from striate.tasks.classify.notable import notable_answers
from striate.tasks.evaluation import ClassRow, Evaluation
from striate.tasks.groups import FEWEST, sample_groups
from striate.tasks.slices import slices_of_hits

MATRIX = 200
"""Up to so many classes the confusion matrix is part of the record."""


def assess_classes(
    evaluation: Evaluation, facts: SampleFacts, temperature: Temperature | None
) -> ClassificationFigures:
    """Everything that follows from class probabilities for a split."""
    truth, probabilities, classes = evaluation.targets, evaluation.decoded, evaluation.classes
    confusion = evaluation.confusion
    assert confusion is not None
    rows = class_figures(truth, probabilities, confusion, classes)
    groups = sample_groups(facts, evaluation.n, truth=truth, classes=classes, brightness=evaluation.brightness)
    calibrated = None
    if temperature is not None:
        calibrated = measure_calibration(truth, with_temperature(probabilities, temperature.value))
    mistakes, unsure = notable_answers(truth, probabilities, classes, evaluation.ids, facts.paths)
    return ClassificationFigures(
        n=evaluation.n,
        figures=average_figures(truth, probabilities, confusion),
        classes=rows,
        confusion=tuple(map(tuple, confusion.tolist())) if len(classes) <= MATRIX else None,
        confused=confused_pairs(confusion, classes),
        curves=rank_curves(truth, probabilities, rows),
        calibration=measure_calibration(truth, probabilities),
        calibrated=calibrated,
        mistakes=mistakes,
        unsure=unsure,
        slices=slices_of_hits(groups, probabilities.argmax(1) == truth),
        left_out=_left_out(evaluation, temperature),
    )


def _left_out(evaluation: Evaluation, temperature: Temperature | None) -> tuple[str, ...]:
    sentences = []
    n, count = evaluation.n, len(evaluation.classes)
    if evaluation.decoded.size > MOST_RANKED:
        sentences.append(f"No areas under curves: {n:,} × {count:,} probabilities are more than {MOST_RANKED:,}.")
    if count > MATRIX:
        sentences.append(f"No confusion matrix in the record: {count:,} classes are more than {MATRIX}.")
    if n < FEWEST:
        sentences.append(f"No slices: {n} samples are fewer than {FEWEST}.")
    if temperature is None:
        sentences.append("No calibrated figures: validation gave no temperature.")
    return tuple(sentences)


def table_of_classes(
    probabilities: NDArray[Any], targets: NDArray[Any], classes: tuple[str, ...]
) -> tuple[NDArray[np.int64], tuple[ClassRow, ...]]:
    """The confusion matrix (true, predicted), and a row for each class."""
    predicted, numbers = probabilities.argmax(1), range(len(classes))
    confusion = confusion_matrix(targets, predicted, labels=numbers).astype(np.int64)
    columns = precision_recall_fscore_support(targets, predicted, labels=numbers, zero_division=np.nan)
    rows = []
    for k, (precision, recall, f1, n) in enumerate(zip(*columns, strict=True)):
        interval = wilson(int(confusion[k, k]), int(n))
        rows.append(ClassRow(classes[k], int(n), _known(precision), _known(recall), _known(f1), interval))
    return confusion, tuple(rows)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
