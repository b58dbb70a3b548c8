"""Intervals of a classifier's metrics by bootstrap over groups of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from striate.records import Interval
from striate.statistics.estimate import Estimate
from striate.statistics.intervals import FEW, drawn_units, resample_counts, share_over_groups, varying_interval
from striate.tasks.classify.metrics import ClassMetrics
from striate.wording import several

Counts = NDArray[np.float64]


class GroupResamples:
    """Counts of samples per class in B resamples of whole groups, from `truth`, `predicted` and `groups` (N,).

    (B, K) each: `hits`, correct predictions; `truly`, samples of the class; `named`, samples predicted as the class.
    """

    def __init__(
        self, truth: NDArray[np.int64], predicted: NDArray[np.int64], groups: Sequence[str], classes: int
    ) -> None:
        units, right = drawn_units(groups, len(truth)), predicted == truth
        hits, truly, named = (
            _by_unit(units[some], numbers[some], int(units.max()) + 1, classes)
            for numbers, some in ((truth, right), (truth, slice(None)), (predicted, slice(None)))
        )
        self.groups = len(truly)
        self._with_truth, self._with_name = (truly > 0).sum(0), (named > 0).sum(0)
        self._with_either = (truly + named > 0).sum(0)
        weights = resample_counts(self.groups)
        self.hits, self.truly, self.named = (weights @ part for part in (hits, truly, named))

    def recall(self, k: int, value: float) -> Interval:
        """The interval of class `k`, whose recall is `value`."""
        return share_over_groups(value, int(self._with_truth[k]), _ratio(self.hits[:, k], self.truly[:, k]))

    def precision(self, k: int, value: float) -> Interval:
        """The interval of class `k`, whose precision is `value`."""
        return share_over_groups(value, int(self._with_name[k]), _ratio(self.hits[:, k], self.named[:, k]))

    def f1(self, k: int) -> Interval | None:
        """The interval of class `k`; None for fewer than 20 groups."""
        values = _ratio(2 * self.hits[:, k], self.truly[:, k] + self.named[:, k])
        return _interval(values, int(self._with_either[k]))

    def averages(self) -> dict[str, NDArray[np.float64]]:
        """(B,) each average over classes in the resamples, as `average_metrics` computes it."""
        both = self.truly + self.named
        precision, recall, f1 = (
            np.nan_to_num(_ratio(part, whole))
            for part, whole in ((self.hits, self.named), (self.hits, self.truly), (2 * self.hits, both))
        )
        found = {"balanced_accuracy": recall.sum(1) / (self.truly > 0).sum(1)}
        counted = both > 0
        equal = counted / counted.sum(1, keepdims=True)
        by_size = self.truly / self.truly.sum(1, keepdims=True)
        for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
            found[f"macro_{name}"] = (values * equal).sum(1)
            if name != "recall":  # weighted, it is the accuracy
                found[f"weighted_{name}"] = (values * by_size).sum(1)
        return found


def over_groups(
    figures: Mapping[str, Estimate],
    rows: Sequence[ClassMetrics],
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    groups: Sequence[str],
) -> tuple[dict[str, Estimate], tuple[ClassMetrics, ...]]:
    """The averages over classes, and the metrics of each class, with intervals by bootstrap over `groups` (N,).

    Averages and F1 have no interval for fewer than 20 groups, areas under curves never have one. Metrics of other names
    do not change.
    """
    drawn = GroupResamples(truth, predicted, groups, len(rows))
    averages = {
        key: replace(figures[key], interval=_interval(values, drawn.groups)) for key, values in drawn.averages().items()
    }
    return {**figures, **averages}, tuple(_class_row(row, k, drawn) for k, row in enumerate(rows))


def _class_row(row: ClassMetrics, k: int, drawn: GroupResamples) -> ClassMetrics:
    precision, recall = row.precision, row.recall
    if precision.value is not None:
        precision = replace(precision, interval=drawn.precision(k, precision.value))
    if recall.value is not None:
        recall = replace(recall, interval=drawn.recall(k, recall.value))
    return replace(
        row,
        precision=precision,
        recall=recall,
        f1=replace(row.f1, interval=drawn.f1(k)),
        auc=row.auc and Estimate(row.auc.value),
        average_precision=row.average_precision and Estimate(row.average_precision.value),
    )


def _by_unit(units: NDArray[np.int64], numbers: NDArray[np.int64], groups: int, classes: int) -> Counts:
    """(G, K) how many samples of each group have each class number."""
    flat = np.bincount(units * classes + numbers, minlength=groups * classes)
    return flat.reshape(groups, classes).astype(np.float64)


def _ratio(part: Counts, whole: Counts) -> Counts:
    ratio: Counts = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return ratio


def _interval(values: NDArray[np.float64], groups: int) -> Interval | None:
    known = values[~np.isnan(values)]
    found = varying_interval(known) if groups >= FEW and len(known) else None
    return None if found is None else replace(found, method=f"bootstrap over {several(groups, 'group')}")
