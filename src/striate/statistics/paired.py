"""By how much one network leads another on the same samples, and whether that is more than noise: exact, permutation
and bootstrap tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.records import Interval
from striate.statistics.intervals import FEW, drawn_count, drawn_units
from striate.wording import several

LEVEL = 0.05
"""A difference with a p-value below this is more than noise."""


_RESAMPLES = 2000
Lead = Callable[[NDArray[Any], NDArray[Any]], float]
"""By how much the second method leads, from the rows of the first and of the second, one a sample."""


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p-value of McNemar's exact test: `only_first` samples are right by the first method alone.

    It is 1 without samples on which the two differ. Source: Q. McNemar, "Note on the sampling error of the difference
    between correlated proportions or percentages", 1947.
    """
    from scipy.stats import binomtest

    differing = only_first + only_second
    return float(binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0


def paired_test(
    theirs: NDArray[Any], ours: NDArray[Any], lead: Lead, rng: np.random.Generator, groups: Sequence[str] = ()
) -> tuple[float, Interval | None]:
    """The p-value of a difference by permutations, and from 20 samples on its interval by bootstrap; both draw whole
    `groups` where samples belong to any.

    The interval is None where no sample differs, since every draw is 0. Where only one of the two excludes 0, the
    bootstrap is too narrow, since few samples decide: the interval is then that of the permutations.
    """
    if np.array_equal(theirs, ours):
        return 1.0, None
    units = drawn_units(groups, len(ours))
    p, reach = _permuted(theirs, ours, lead, rng, units)
    if units.max() + 1 < FEW:
        return p, None
    low, high = bootstrap_interval(theirs, ours, lead, rng, units)
    method = "paired bootstrap"
    if (p < LEVEL) == (low <= 0 <= high):
        value, method = lead(theirs, ours), "paired permutation"
        low, high = value - reach, value + reach
    return p, Interval(low, high, 1 - LEVEL, method)


def _permuted(
    theirs: NDArray[Any], ours: NDArray[Any], lead: Lead, rng: np.random.Generator, units: NDArray[np.int64]
) -> tuple[float, float]:
    """The two-sided p-value of the difference, and the largest difference whose p-value is not below 0.05.

    If the methods are equally good, each unit's pairs can be exchanged. For few samples all permutations are computed;
    for many, random ones, with the observed one among them, so that the probability of p < 0.05 without a difference is
    at most 0.05 for any n.
    Source: R. A. Fisher, "The Design of Experiments", 1935, section 21.
    """
    n = int(units.max()) + 1
    every = 2**n <= _RESAMPLES
    rounds = 2**n if every else _RESAMPLES
    seen = abs(lead(theirs, ours))
    axes = (slice(None), *[None] * (ours.ndim - 1))
    leads = [] if every else [seen]
    for k in range(rounds):
        swap = (k >> np.arange(n)) & 1 if every else rng.integers(0, 2, n)
        chosen = swap.astype(bool)[units][axes]
        leads.append(abs(lead(np.where(chosen, ours, theirs), np.where(chosen, theirs, ours))))
    # Sums of the same numbers in another order differ by rounding, and must count as equal.
    drawn = np.sort(leads)[::-1] * (1 + 1e-9)
    return float((drawn >= seen).mean()), float(drawn[math.ceil(LEVEL * len(drawn)) - 1])


def bootstrap_interval(
    theirs: NDArray[Any],
    ours: NDArray[Any],
    lead: Lead,
    rng: np.random.Generator,
    units: NDArray[np.int64] | None = None,
) -> tuple[float, float]:
    """The middle 95 % of the differences on resamples of the samples, or of `units` of them, with replacement."""
    n = len(ours) if units is None else int(units.max()) + 1
    draws = (rng.integers(0, n, n) for _ in range(_RESAMPLES))
    if n < len(ours):
        assert units is not None
        members = np.split(np.argsort(units, kind="stable"), np.cumsum(np.bincount(units))[:-1])
        draws = (np.concatenate([members[unit] for unit in chosen]) for chosen in draws)
    drawn = [lead(theirs[places], ours[places]) for places in draws]
    low, high = np.quantile(drawn, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def p_text(p: float) -> str:
    """`= 0.031`, `= 0.0042`, `< 0.0001`."""
    return "< 0.0001" if p < 0.0001 else f"= {p:.4f}" if p < 0.01 else f"= {p:.3f}"


POWER = 0.8
"""The power at which `needed` samples detect the measured difference."""
_DRAWS = 10_000
_WIDTH = NormalDist().inv_cdf(1 - LEVEL / 2)


@dataclass(frozen=True)
class Difference:
    """By how much the first of two networks is better than the second on the same samples."""

    n: int
    """Number of samples."""
    value: float
    """The difference in the units of the headline metric, shares as 0 to 1; negative where the first is worse."""
    interval: Interval | None
    """Its 95 % interval; None for fewer than 20 numbers or masks, or where all are the same."""
    p_value: float
    """The p-value of `test`."""
    test: str
    """Name of the test."""
    variance: float | None
    """Variance of what one sample adds to `value`, whose standard error is √(variance / n); None without an
    interval."""
    differing: int | None = None
    """Number of samples on which exactly one of the two networks is right; None where predictions are not classes."""

    def needed(self, level: float = LEVEL) -> int | None:
        """About how many samples detect this difference at `level` with power 0.8; None where the difference is 0 or
        its variance is unknown. Source: R. J. Connor, "Sample size for testing differences in proportions for the
        paired-sample design", Biometrics 43, 1987, with the variance under the alternative for both."""
        if self.value == 0 or not self.variance:
            return None
        reach = NormalDist().inv_cdf(1 - level / 2) + NormalDist().inv_cdf(POWER)
        return math.ceil(self.variance * (reach / self.value) ** 2)

    def reversed(self) -> Difference:
        """The difference of the second network from the first."""
        interval = self.interval
        if interval is not None:
            interval = replace(interval, low=-interval.high, high=-interval.low)
        return replace(self, value=-self.value, interval=interval)


def difference_of_classes(first: NDArray[np.bool_], second: NDArray[np.bool_], seed: int = 0) -> Difference:
    """The difference of two accuracies from (N,) whether each network is right: McNemar's exact test."""
    n = len(first)
    ahead, behind = int((first & ~second).sum()), int((second & ~first).sum())
    value = (ahead - behind) / n
    variance = (ahead + behind) / n - value**2
    interval = _accuracy_interval(ahead, behind, n, seed)
    p = mcnemar(ahead, behind)
    return Difference(n, value, interval, p, "McNemar", variance, ahead + behind)


def _accuracy_interval(ahead: int, behind: int, n: int, seed: int) -> Interval:
    """The 95 % interval of (ahead − behind) / n.

    A resample changes only the counts of the sorts of samples, which are a multinomial draw. Where fewer than 20
    samples differ, a bootstrap is too narrow: the interval is then by formula, with half a sample added to each of the
    four sorts. Source: A. Agresti and Y. Min, "Simple improved confidence intervals for comparing matched
    proportions", Statistics in Medicine 24, 2005.
    """
    if ahead + behind >= FEW:
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(n, [ahead / n, behind / n, (n - ahead - behind) / n], _DRAWS)
        low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, [LEVEL / 2, 1 - LEVEL / 2])
        return Interval(float(low), float(high), 1 - LEVEL, "paired bootstrap")
    ours, theirs = (ahead + 0.5) / (n + 2), (behind + 0.5) / (n + 2)
    reach = _WIDTH * math.sqrt((ours + theirs - (ours - theirs) ** 2) / (n + 2))
    middle = ours - theirs
    return Interval(max(-1.0, middle - reach), min(1.0, middle + reach), 1 - LEVEL, "Agresti and Min")


def difference_of_rows(
    theirs: NDArray[Any], ours: NDArray[Any], lead: Lead, seed: int = 0, groups: Sequence[str] = ()
) -> Difference:
    """By how much `ours` leads in a metric that `lead` computes from the rows of both, one a sample: `paired_test`."""
    n = len(ours)
    p, interval = paired_test(theirs, ours, lead, np.random.default_rng(seed), groups)
    variance = None if interval is None else n * ((interval.high - interval.low) / (2 * _WIDTH)) ** 2
    test = f"paired permutation of {several(drawn_count(groups, n), 'group')}" if any(groups) else "paired permutation"
    return Difference(n, lead(theirs, ours), interval, p, test, variance)


def holm(p_values: list[float]) -> list[float]:
    """The p-values of several tests, corrected so that the probability of rejecting any true null hypothesis is that of
    a single test. Source: S. Holm, "A simple sequentially rejective multiple test procedure", 1979."""
    order = np.argsort(p_values, kind="stable")
    count = len(p_values)
    stepped = [(count - rank) * p_values[place] for rank, place in enumerate(order)]
    corrected = np.minimum(1.0, np.maximum.accumulate(stepped))
    back = np.empty(count)
    back[order] = corrected
    return [float(p) for p in back]
