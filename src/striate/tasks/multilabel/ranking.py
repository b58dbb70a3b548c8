"""Average precision of each label, with resamples; and thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.records import Interval
from striate.statistics.estimate import Estimate
from striate.statistics.intervals import (
    FEW,
    average_precision_interval,
    drawn_count,
    drawn_units,
    percentile_interval,
    resamples_for,
)
from striate.statistics.ranking import mean_of_known
from striate.tasks.headline import Headline, Rows


class Ranking:
    """Samples ranked by the score of each of K labels: (N, K) `scores`, and `truth` of 0 and 1. Equal scores share a
    rank."""

    def __init__(self, scores: NDArray[Any], truth: NDArray[Any]) -> None:
        self._order = np.argsort(-scores, axis=0, kind="stable")
        sorted_scores = np.take_along_axis(scores, self._order, 0)
        self._truth = np.take_along_axis(np.asarray(truth, np.float64), self._order, 0)
        self._last = np.ones(scores.shape, np.bool_)
        self._last[:-1] = sorted_scores[1:] != sorted_scores[:-1]

    def precisions(self, weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """(K,) average precision: Σ (recall − previous recall) × precision over the ranks; NaN for a label that no
        sample has. `weights` (N,): how often each sample counts."""
        each = np.ones_like(self._truth) if weights is None else weights[self._order]
        hits, seen = (each * self._truth).cumsum(0), each.cumsum(0)
        reached = np.maximum.accumulate(np.where(self._last, hits, 0), 0)
        gain = np.diff(reached, axis=0, prepend=0)
        total = hits[-1] if len(hits) else np.zeros(hits.shape[1])
        area = (gain * hits / np.maximum(seen, 1e-12)).sum(0)
        return np.asarray(np.divide(area, total, out=np.full(len(total), np.nan), where=total > 0))


def parts_of(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, K) scores and truth of rows (N, 2 K)."""
    return rows[:, : rows.shape[1] // 2], rows[:, rows.shape[1] // 2 :]


def drawn_weights(groups: tuple[str, ...], n: int, cost: int, seed: int = 0) -> Any:
    """How often each of n samples counts in each resample of samples, or of `groups`. `cost`: number of values that one
    resample processes, which limits how many there are."""
    units = drawn_units(groups, n)
    draw, count = np.random.default_rng(seed), drawn_count(groups, n)
    for _ in range(resamples_for(cost)):
        yield np.bincount(draw.integers(0, count, count), minlength=count).astype(np.float64)[units]


def estimates_of(precisions: NDArray[np.float64], positives: NDArray[Any]) -> tuple[Estimate, ...]:
    """The average precision of each label with the interval for its number of positives; no value for a label without
    any."""
    return tuple(
        Estimate(float(ap), average_precision_interval(float(ap), int(n))) if n else Estimate(None)
        for ap, n in zip(precisions, positives, strict=True)
    )


def single_part_widths(parts: Sequence[Estimate]) -> tuple[float, float]:
    """How far the uncertainty of a single part can move the mean of all parts down and up; parts without a value are
    left out."""
    known = [(part.value, part.interval) for part in parts if part.value is not None and part.interval is not None]
    below = max((value - interval.low for value, interval in known), default=0.0)
    above = max((interval.high - value for value, interval in known), default=0.0)
    return below / max(1, len(known)), above / max(1, len(known))


def widened(value: float | None, drawn: Interval, alone: tuple[float, float]) -> Estimate:
    """The estimate whose interval is `drawn`, but at least as far from the value, below and above, as `alone`."""
    if value is None:
        return Estimate(None)
    low, high = max(0.0, min(drawn.low, value - alone[0])), min(1.0, max(drawn.high, value + alone[1]))
    return Estimate(value, replace(drawn, low=low, high=high))


@dataclass(frozen=True)
class RankedLabels(Headline):
    """Mean average precision over the labels that occur, of rows (N, 2 K) that are ranked together: `parts_of`."""

    def value(self, rows: Rows) -> float:
        """The metric of these samples; a sample that occurs twice counts twice."""
        return mean_of_known(Ranking(*parts_of(rows)).precisions())

    def draws(self, rows: Rows, seed: int = 0) -> NDArray[np.float64]:
        """The metric of each of many resamples, drawn with replacement from samples or groups."""
        ranking = Ranking(*parts_of(rows))
        weights = drawn_weights(self.groups, len(rows), rows.size // 2, seed)
        return np.array([mean_of_known(ranking.precisions(some)) for some in weights])

    def estimate(self, rows: Rows, seed: int = 0) -> Estimate:
        """The metric with its 95 % interval; without an interval for fewer than 20 samples, or groups; without a value
        where no label occurs."""
        scores, truth = parts_of(rows)
        if not truth.any():
            return Estimate(None)
        if drawn_count(self.groups, len(rows)) < FEW:
            return Estimate(self.value(rows))
        labels = estimates_of(Ranking(scores, truth).precisions(), truth.sum(0))
        return widened(self.value(rows), percentile_interval(self.draws(rows, seed)), single_part_widths(labels))

    def each(self, rows: Rows) -> NDArray[np.float64]:
        """(N,) how well the labels of each sample are ranked above those that it does not have: label ranking average
        precision (Schapire and Singer 2000); 1 where it has none or all."""
        scores, truth = parts_of(rows)
        return np.array([_ranked_labels(*pair) for pair in zip(scores, truth, strict=True)], np.float64)


def _ranked_labels(scores: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    own = scores[truth > 0]
    if not len(own):
        return 1.0
    before = np.searchsorted(np.sort(-scores), -own, side="right")
    right = np.searchsorted(np.sort(-own), -own, side="right")
    return float((right / before).mean())


def best_threshold(scores: NDArray[Any], truth: NDArray[Any]) -> float:
    """The threshold with the highest F1, between two of the scores (N,), by `truth` (N,); of equal ones, that with the
    highest recall. 0.5 where no sample is true."""
    order = np.argsort(-scores, kind="stable")
    values, hits = scores[order].astype(np.float64), np.cumsum(np.asarray(truth, np.float64)[order])
    if not len(hits) or not hits[-1]:
        return 0.5
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + hits[-1])
    f1[np.append(values[1:] == values[:-1], False)] = -1  # a threshold cannot separate equal scores
    place = len(f1) - 1 - int(f1[::-1].argmax())
    after = values[place + 1] if place + 1 < len(values) else 0.0
    return float(values[place] + after) / 2


ENOUGH = 10
"""Smallest number of validation samples with a label, and without it, for a threshold of its own."""


def best_thresholds(scores: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    """(K,) the threshold of each label with the best F1. Labels with fewer than `ENOUGH` samples get the threshold that
    is best for all labels together, to avoid overfitting."""
    counts = truth.sum(0)
    common = best_threshold(scores.ravel(), truth.ravel())
    own = np.minimum(counts, len(truth) - counts) >= ENOUGH
    return np.array([best_threshold(scores[:, k], truth[:, k]) if own[k] else common for k in range(scores.shape[1])])
