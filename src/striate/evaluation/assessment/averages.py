"""Figures over all classes: accuracy, top k, balanced accuracy, macro and weighted averages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from striate.evaluation.assessment.record import Estimate
from striate.evaluation.assessment.resample import percentile_interval, resampled_f1
from striate.evaluation.intervals import f1_interval, sum_interval, wilson
from striate.records import Interval

TOPS = (2, 3, 5, 10)


def average_figures(
    truth: NDArray[np.int64], probabilities: NDArray[np.float32], confusion: NDArray[np.int64]
) -> dict[str, Estimate]:
    """The figures of a split by name, each from 0 to 1.

    `truth` (N,), `probabilities` (N, K), `confusion` (K, K) with true classes as rows. Averages are over the classes
    that are there or were named; a precision or recall over nothing counts as 0 there, as in metrics.json. Balanced
    accuracy is the mean recall of the classes that are there. Intervals: Wilson's where samples are counted, MOVER
    for averages of independent precisions or recalls, bootstrap for F1.
    """
    n, hits = len(truth), int(confusion.trace())
    figures = {"accuracy": _share(hits, n)}
    if len(confusion) > 2:
        ranks = _ranks(truth, probabilities)
        figures |= {f"top{k}": _share(int((ranks < k).sum()), n) for k in TOPS if k < len(confusion)}
    truly, named, right = confusion.sum(1), confusion.sum(0), confusion.diagonal()
    recalls = [wilson(int(h), int(t)) for h, t in zip(right, truly, strict=True)]
    precisions = [wilson(int(h), int(t)) for h, t in zip(right, named, strict=True)]
    there = np.flatnonzero(truly)
    balanced = (right[there] / truly[there]).tolist()
    interval = sum_interval(balanced, [recalls[k] for k in there], [1 / len(there)] * len(there))
    figures["balanced_accuracy"] = Estimate(float(np.mean(balanced)), interval)

    counted = np.flatnonzero(truly + named)
    predicted = probabilities.argmax(1)
    rows = precision_recall_fscore_support(truth, predicted, labels=counted, zero_division=0)
    precision, recall, _, _ = (np.asarray(row, np.float64) for row in rows)
    for kind, weights in (("macro", np.full(len(counted), 1 / len(counted))), ("weighted", truly[counted] / n)):
        for name, values, intervals in (("precision", precision, precisions), ("recall", recall, recalls)):
            figures[f"{kind}_{name}"] = _average(values, [intervals[k] for k in counted], weights)
    figures["weighted_recall"] = figures["accuracy"]  # the same by definition
    return figures | _f1_figures(confusion, counted, np.asarray(rows[2], np.float64))


def _share(hits: int, n: int) -> Estimate:
    return Estimate(hits / n, wilson(hits, n))


def _average(values: NDArray[Any], intervals: Sequence[Interval], weights: NDArray[Any]) -> Estimate:
    interval = sum_interval(values.tolist(), intervals, weights.tolist())
    return Estimate(float(values @ weights), interval)


def _ranks(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N,) how many classes come before the true one; of equally probable ones the first does.

    Not by scikit-learn's top_k_accuracy_score, which sorts all classes of all samples once for each k.
    """
    own = probabilities[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(probabilities.shape[1]) < truth[:, None]
    ranks: NDArray[np.int64] = ((probabilities > own) | ((probabilities == own) & earlier)).sum(1)
    return ranks


def _f1_figures(
    confusion: NDArray[np.int64], counted: NDArray[np.int64], f1: NDArray[np.float64]
) -> dict[str, Estimate]:
    shares = confusion.sum(1)[counted] / confusion.sum()
    equal = np.full(len(counted), 1 / len(counted))
    if confusion.trace() == confusion.sum():
        # Resamples of nothing but hits do not vary; that there may be mistakes elsewhere, the formula knows.
        intervals = [f1_interval(int(confusion[k, k]), 0) for k in counted]
        return {"macro_f1": _average(f1, intervals, equal), "weighted_f1": _average(f1, intervals, shares)}
    draws, drawn_shares = resampled_f1(confusion)
    macro, weighted = draws[:, counted].mean(1), (draws * drawn_shares).sum(1)
    return {
        "macro_f1": Estimate(float(f1.mean()), percentile_interval(macro)),
        "weighted_f1": Estimate(float(f1 @ shares), percentile_interval(weighted)),
    }
