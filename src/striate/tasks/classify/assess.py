"""Everything that follows from class probabilities for a split, and the table of classes.
Figures over all classes: accuracy, top k, balanced accuracy, macro and weighted averages.
Each class against the rest: precision, recall, F1, ROC and precision–recall curves; and which are confused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

from striate.data.dataset import SampleFacts
from striate.statistics.calibration import Temperature, measure_calibration, with_temperature
from striate.statistics.estimate import Estimate
from striate.statistics.intervals import (
    auc_interval,
    average_precision_interval,
    f1_average_interval,
    f1_interval,
    shares_interval,
    wilson,
)
from striate.tasks.classify.figures import ClassFigures, ClassificationFigures, ConfusedPair, RankCurve
from striate.tasks.classify.notable import notable_answers
from striate.tasks.evaluation import ClassRow, Evaluation
from striate.tasks.groups import FEWEST, sample_groups, slices_of_hits

TOPS = (2, 3, 5, 10)


def average_figures(
    truth: NDArray[np.int64], probabilities: NDArray[np.float32], confusion: NDArray[np.int64]
) -> dict[str, Estimate]:
    """The figures of a split by name, each from 0 to 1.

    `truth` (N,), `probabilities` (N, K), `confusion` (K, K) with true classes as rows. Averages are over the classes
    that are there or were named; a precision or recall over nothing counts as 0 there, as in metrics.json. Balanced
    accuracy is the mean recall of the classes that are there. Intervals: Wilson's where samples are counted, of the
    effective number of samples for averages over classes.
    """
    n = len(truth)
    figures = {"accuracy": _share(int(confusion.trace()), n)}
    if len(confusion) > 2:
        ranks = _ranks(truth, probabilities)
        figures |= {f"top{k}": _share(int((ranks < k).sum()), n) for k in TOPS if k < len(confusion)}
    truly, named, right = confusion.sum(1), confusion.sum(0), confusion.diagonal()
    there = np.flatnonzero(truly)
    equal = np.full(len(there), 1 / len(there))
    interval = shares_interval(right[there], truly[there], equal)
    figures["balanced_accuracy"] = Estimate(float(np.mean(right[there] / truly[there])), interval)

    counted = np.flatnonzero(truly + named)
    predicted = probabilities.argmax(1)
    rows = precision_recall_fscore_support(truth, predicted, labels=counted, zero_division=0)
    precision, recall, f1 = (np.asarray(row, np.float64) for row in rows[:3])
    hits, of_counted = right[counted], confusion[np.ix_(counted, counted)]
    for kind, weights in (("macro", np.full(len(counted), 1 / len(counted))), ("weighted", truly[counted] / n)):
        intervals = {
            "precision": shares_interval(hits, named[counted], weights, named=True),
            "recall": shares_interval(hits, truly[counted], weights),
            "f1": f1_average_interval(of_counted, weights),
        }
        for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
            figures[f"{kind}_{name}"] = Estimate(float(values @ weights), intervals[name])
    figures["weighted_recall"] = figures["accuracy"]  # the same by definition
    return figures


def _ranks(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N,) how many classes come before the true one; of equally probable ones the first does.

    Not by scikit-learn's top_k_accuracy_score, which sorts all classes of all samples once for each k.
    """
    own = probabilities[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(probabilities.shape[1]) < truth[:, None]
    ranks: NDArray[np.int64] = ((probabilities > own) | ((probabilities == own) & earlier)).sum(1)
    return ranks


PAIRS = 20
"""So many confused pairs are listed."""
DRAWN = 20
"""So many classes have curves: of more, those with the lowest average precision."""
MOST_RANKED = 1_000_000
"""Of more probabilities (samples × classes) areas and curves are not computed: sorting them would take seconds."""
_POINTS = 101


def class_figures(
    truth: NDArray[np.int64], probabilities: NDArray[np.float32], confusion: NDArray[np.int64], classes: Sequence[str]
) -> tuple[ClassFigures, ...]:
    """A row a class, in the order of class numbers. Areas are None for more than `MOST_RANKED` probabilities, and where
    a class has no samples or all of them."""
    truly, named, right = confusion.sum(1), confusion.sum(0), confusion.diagonal()
    ranked = probabilities.size <= MOST_RANKED
    rows = []
    for k, name in enumerate(classes):
        n, predicted, hits = int(truly[k]), int(named[k]), int(right[k])
        either = n + predicted - hits
        f1 = Estimate(2 * hits / (n + predicted), f1_interval(hits, either - hits)) if either else Estimate(None)
        auc = average_precision = None
        if ranked and 0 < n < len(truth):
            auc, average_precision = _areas(truth == k, probabilities[:, k])
        row = ClassFigures(name, n, predicted, _share(hits, predicted), _share(hits, n), f1, auc, average_precision)
        rows.append(row)
    return tuple(rows)


def _share(hits: int, n: int) -> Estimate:
    return Estimate(hits / n, wilson(hits, n)) if n else Estimate(None)


def _areas(positive: NDArray[np.bool_], scores: NDArray[np.float32]) -> tuple[Estimate, Estimate]:
    n = int(positive.sum())
    auc, precision = float(roc_auc_score(positive, scores)), float(average_precision_score(positive, scores))
    return (
        Estimate(auc, auc_interval(auc, n, len(positive) - n)),
        Estimate(precision, average_precision_interval(precision, n)),
    )


def rank_curves(
    truth: NDArray[np.int64], probabilities: NDArray[np.float32], rows: Sequence[ClassFigures]
) -> tuple[RankCurve, ...]:
    """The curves of the classes that have areas, at most `DRAWN` of them, in the order of class numbers."""
    known = [(row.average_precision.value or 0.0, k) for k, row in enumerate(rows) if row.average_precision is not None]
    chosen = sorted(k for _, k in sorted(known)[:DRAWN])
    return tuple(_curve(rows[k].name, truth == k, probabilities[:, k]) for k in chosen)


def _curve(name: str, positive: NDArray[np.bool_], scores: NDArray[np.float32]) -> RankCurve:
    false_rate, true_rate, _ = roc_curve(positive, scores)
    precision, recall, _ = precision_recall_curve(positive, scores)
    return RankCurve(name, *_thinned(false_rate, true_rate), *_thinned(recall[::-1], precision[::-1]))


def _thinned(x: NDArray[Any], y: NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """At most `_POINTS` of the points of a curve, evenly spaced along it; both ends are among them."""
    way = np.concatenate([[0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    places = np.unique(np.searchsorted(way, np.linspace(0, way[-1], _POINTS)).clip(max=len(way) - 1))
    places[-1] = len(way) - 1
    return tuple(np.round(x[places], 5).tolist()), tuple(np.round(y[places], 5).tolist())


def confused_pairs(confusion: NDArray[np.int64], classes: Sequence[str]) -> tuple[ConfusedPair, ...]:
    """The most frequent mistakes, the commonest first; among equals, in the order of class numbers."""
    wrong, truly = confusion.copy(), confusion.sum(1)
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = []
    for true, predicted in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if count := int(wrong[true, predicted]):
            share = _share(count, int(truly[true]))
            pairs.append(ConfusedPair(classes[true], classes[predicted], count, share))
    return tuple(pairs)


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
