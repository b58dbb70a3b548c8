"""Figures over all classes: accuracy, top k, balanced accuracy, macro and weighted averages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from striate.statistics.average_intervals import f1_average_interval, shares_interval
from striate.statistics.estimate import Estimate
from striate.statistics.intervals import wilson

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


def _share(hits: int, n: int) -> Estimate:
    return Estimate(hits / n, wilson(hits, n))


def _ranks(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N,) how many classes come before the true one; of equally probable ones the first does.

    Not by scikit-learn's top_k_accuracy_score, which sorts all classes of all samples once for each k.
    """
    own = probabilities[np.arange(len(truth)), truth][:, None]
    earlier = np.arange(probabilities.shape[1]) < truth[:, None]
    ranks: NDArray[np.int64] = ((probabilities > own) | ((probabilities == own) & earlier)).sum(1)
    return ranks
