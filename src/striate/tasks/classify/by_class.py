"""Each class against the rest: precision, recall, F1, ROC and precision–recall curves; and which are confused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from striate.statistics.estimate import Estimate
from striate.statistics.intervals import auc_interval, average_precision_interval, f1_interval, wilson
from striate.tasks.classify.figures import ClassFigures, ConfusedPair, RankCurve

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
