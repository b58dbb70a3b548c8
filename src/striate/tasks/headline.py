"""The headline metric of a task, computed from rows, one a sample, with its interval, slices, gap and lead.

A task defines what each sample adds (`Task.rows`: 1 for a hit, a squared error, pixels in intersection and union), and
how the metric follows from the sum over samples (`Task.headline_of`). Everything else follows from these two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from striate.records import Interval
from striate.statistics.estimate import Estimate
from striate.statistics.intervals import FEW, drawn_count, percentile_interval, resampled_means, varying_interval
from striate.statistics.part_of_groups import part_differs
from striate.tasks.assessment import Gap, Slice
from striate.tasks.groups import Group, judged_slices
from striate.tasks.metric import Metric
from striate.wording import formatted, number

Rows = NDArray[np.float64]
"""(N, …): what each sample adds."""


@dataclass(frozen=True)
class Headline:
    """The headline metric, and how it is computed from rows, one a sample."""

    metric: Metric
    """The metric."""
    of_total: Callable[[Rows, int], float]
    """From the sum of the rows and the number of samples to the value."""
    groups: tuple[str, ...] = ()
    """The group of each sample; samples of a group are drawn together. Empty where samples have none."""

    def over(self, groups: Sequence[str]) -> Self:
        """The metric of samples that are drawn in `groups`: the group of each sample, an empty text for none."""
        return replace(self, groups=tuple(groups))

    def value(self, rows: Rows) -> float:
        """The metric of these samples."""
        return self.of_total(rows.sum(0), len(rows))

    def draws(self, rows: Rows, seed: int = 0) -> NDArray[np.float64]:
        """The metric of each of many resamples, drawn with replacement from samples or groups."""
        means = resampled_means(rows.reshape(len(rows), -1), seed, self.groups)
        return np.array([self.of_total(mean.reshape(rows.shape[1:]), 1) for mean in means])

    def estimate(self, rows: Rows, seed: int = 0) -> Estimate:
        """The metric with its 95 % interval by bootstrap; without an interval for fewer than 20 samples, or groups, and
        where all resamples are equal."""
        many = drawn_count(self.groups, len(rows)) >= FEW
        interval = varying_interval(self.draws(rows, seed)) if many else None
        return Estimate(self.value(rows), interval)

    def lead(self, theirs: Rows, ours: Rows) -> float:
        """By how much the second is better; above 0 where it leads."""
        one, two = self.value(theirs), self.value(ours)
        return two - one if self.metric.higher_is_better else one - two

    def each(self, rows: Rows) -> NDArray[np.float64]:
        """(N,) the metric of each sample alone."""
        return np.array([self.of_total(row, 1) for row in rows], np.float64)

    def slices(self, groups: Sequence[Group], rows: Rows) -> tuple[Slice, ...]:
        """The metric of each slice, with the Mann–Whitney test against all other samples, or, where samples have
        groups, a test of the mean rank that draws whole groups."""
        from scipy.stats import mannwhitneyu, rankdata

        each = self.each(rows) if len(groups) else np.empty(0)
        ranks = rankdata(each) if any(self.groups) else each

        def measure(members: NDArray[np.bool_]) -> tuple[Estimate, float]:
            if not any(self.groups):
                return self.estimate(rows[members]), float(mannwhitneyu(each[members], each[~members]).pvalue)
            own = np.array(self.groups)[members].tolist()
            return self.over(own).estimate(rows[members]), part_differs(ranks, members, self.groups)

        return judged_slices(groups, measure)

    def gap(self, train: Rows, val: Rows, groups: tuple[Sequence[str], Sequence[str]] = ((), ())) -> Gap:
        """The gap between training and validation, with its interval by bootstrap; `groups`: those of the samples of
        each split."""
        metric, both = self.metric, (train, val)
        # Different seeds, since the two splits are independent.
        draws = [self.over(own).draws(rows, seed) for seed, (rows, own) in enumerate(zip(both, groups, strict=True))]
        many = [drawn_count(own, len(rows)) >= FEW for rows, own in zip(both, groups, strict=True)]
        shares = [
            Estimate(self.value(rows), percentile_interval(drawn) if enough else None)
            for rows, drawn, enough in zip(both, draws, many, strict=True)
        ]
        interval = None
        if all(many):
            count, sign = min(map(len, draws)), 1 if metric.higher_is_better else -1
            interval = percentile_interval(sign * (draws[0][:count] - draws[1][:count]))
        values = [share.value or 0.0 for share in shares]
        lead = values[0] - values[1] if metric.higher_is_better else values[1] - values[0]
        difference = Estimate(lead, interval)
        trained, validated = (metric.text(value) for value in values)
        sentence = f"{_capital(metric.name)} in training {trained}, in validation {validated}: "
        sentence += judged_gap(difference, metric.lead[0], _words(metric))
        return Gap(metric.key, shares[0], len(train), shares[1], len(val), difference, sentence)


def _words(metric: Metric) -> str:
    unit = metric.lead[1]
    return f"{unit} {'better' if metric.is_share else 'higher' if metric.higher_is_better else 'lower'}"


def _capital(text: str) -> str:
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]  # mAP stays


def judged_gap(difference: Estimate, scale: float, unit: str) -> str:
    """The second half of a gap's sentence: its size, its direction, and its interval."""

    def text(share: float) -> str:
        return formatted(scale * share, ".2f") if scale == 100 else number(scale * share)

    value, interval = difference.value or 0.0, difference.interval
    size = f"{text(abs(value))}{unit} on {'training' if value > 0 else 'validation'}"
    if text(abs(value)) == text(0.0):
        size = "no difference"
    if interval is None:
        return f"{size}; too few samples for an interval."
    # The interval is that of the size: in the direction that the sentence names.
    low, high = (interval.low, interval.high) if value >= 0 else (-interval.high, -interval.low)
    ends = " to ".join(text(end) for end in (low, high))
    chance = ", within noise" if low <= 0 <= high else ""
    return f"{size}{chance} (95 % interval {ends})."


def interval_of(estimate: Estimate) -> list[float] | None:
    """`[low, high]`, as metrics.json has it."""
    interval: Interval | None = estimate.interval
    return None if interval is None else [interval.low, interval.high]
