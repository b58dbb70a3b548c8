"""95 % intervals of metrics that were measured on n samples: by formula, and by bootstrap.

Averages over classes have Wilson's interval with the effective number of samples: the number for which a proportion
varies as much as the average. Source: N. Dean and M. Pagano, "Evaluating confidence interval methods for binomial
proportions in clustered surveys", Journal of Survey Statistics and Methodology 2015.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.records import Interval
from striate.wording import several

METHOD = "Wilson"
LEVEL = 0.95


def wilson_ends(share: Any, number: Any, level: float = LEVEL) -> tuple[Any, Any]:
    """Both ends of the Wilson score interval of a share of `number` samples, which need not be an integer; or of
    arrays.

    Unlike the textbook `p ± 1.96 √(p(1-p)/n)` it never leaves [0, 1] and has a width where p is 0 or 1.
    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    z = NormalDist().inv_cdf(0.5 + 0.5 * level)
    twice = 2 * (number + z**2)
    center = (2 * number * share + z**2) / twice
    half = z / twice * np.sqrt(4 * number * share * (1 - share) + z**2)
    # Rounding must not push an end past the share, or out of [0, 1].
    return np.clip(center - half, 0.0, share), np.clip(center + half, share, 1.0)


def wilson(hits: int, n: int) -> Interval:
    """The Wilson score interval of the proportion `hits / n`; [0, 1] without samples (n = 0)."""
    if n == 0:
        return Interval(0.0, 1.0, LEVEL, METHOD)
    low, high = wilson_ends(hits / n, n)
    return Interval(float(low), float(high), LEVEL, METHOD)


def f1_interval(hits: int, others: int) -> Interval:
    """The interval of F1 = 2 hits / (2 hits + others); `others` are the false negatives and false positives of the
    class.

    Among the samples that belong to the class or are predicted as it, the share J of hits is a proportion, with
    Wilson's interval; F1 = 2J / (1 + J) rises with J.
    """
    both = wilson(hits, hits + others)
    low, high = (2 * end / (1 + end) for end in (both.low, both.high))
    return Interval(low, high, LEVEL, "Wilson, of the overlap")


def auc_interval(auc: float, positives: float, negatives: float) -> Interval:
    """The score interval of an area under a ROC curve, in 0 to 1 also where the area is 1.

    Source: R. G. Newcombe, "Confidence intervals for an effect size measure based on the Mann–Whitney statistic. Part
    2", Statistics in Medicine 2006, method 5.
    """
    from scipy.optimize import brentq  # takes half a second to load

    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    more = (positives + negatives) / 2 - 1

    def variance(area: float) -> float:
        return area * (1 - area) * (1 + more * ((1 - area) / (2 - area) + area / (1 + area))) / (positives * negatives)

    def distance(area: float) -> float:
        return (area - auc) ** 2 - z * z * variance(area)

    # The distance is negative at the area itself, and positive at 0 and 1, where the variance is 0.
    low = 0.0 if auc <= 0 else brentq(distance, 0, min(auc, 1 - 1e-12))
    high = 1.0 if auc >= 1 else brentq(distance, max(auc, 1e-12), 1)
    return Interval(float(low), float(high), LEVEL, "Newcombe")


def average_precision_interval(average_precision: float, positives: int) -> Interval:
    """The interval of an average precision: Wilson's, since it varies about like a proportion of the positives.

    Source: K. Boyd, K. H. Eng and C. D. Page, "Area under the precision-recall curve: point estimates and confidence
    intervals", ECML 2013 (the binomial interval).
    """
    low, high = wilson_ends(average_precision, positives)
    return Interval(float(low), float(high), LEVEL, "binomial")


def sum_interval(values: Sequence[float], intervals: Sequence[Interval], weights: Sequence[float]) -> Interval:
    """The interval of Σ weight × value of independent values, from the interval of each value; weights may be negative.

    Source: G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures", Statistics in Medicine
    2008 (MOVER); for the difference of two proportions it is Newcombe's interval of 1998.
    """
    below = above = total = 0.0
    for value, interval, weight in zip(values, intervals, weights, strict=True):
        down, up = weight * (value - interval.low), weight * (interval.high - value)
        if weight < 0:
            down, up = -up, -down
        below, above, total = below + down * down, above + up * up, total + weight * value
    return Interval(total - math.sqrt(below), total + math.sqrt(above), LEVEL, "MOVER")


RESAMPLES, FEWEST = 1000, 200
_DRAWS = 10_000_000
"""Numbers that are drawn for one metric: large splits, whose metrics vary less, have fewer resamples."""
FEW = 20
"""With fewer samples, a bootstrap's interval is too narrow and is left out."""


def resamples_for(items: int) -> int:
    """The number of resamples for this number of items."""
    return max(FEWEST, min(RESAMPLES, _DRAWS // max(1, items)))


def drawn_units(groups: Sequence[str], n: int) -> NDArray[np.int64]:
    """(N,) for each of n samples the number of the unit that it is drawn with: its group, or itself without a group."""
    if not any(groups):
        return np.arange(n)
    keys = [name or f"\0{place}" for place, name in enumerate(groups)]
    return np.unique(keys, return_inverse=True)[1]


def drawn_count(groups: Sequence[str], n: int) -> int:
    """The number of units that n samples are drawn in; a sample without a group is a unit of its own."""
    return int(drawn_units(groups, n).max(initial=-1)) + 1


def grouped(rows: NDArray[np.float64], groups: Sequence[str]) -> NDArray[np.float64]:
    """Rows (N, M) of samples, summed over the units that are drawn together."""
    units = drawn_units(groups, len(rows))
    found = np.zeros((drawn_count(groups, len(rows)), rows.shape[1]))
    np.add.at(found, units, rows)
    return found


def resample_counts(count: int) -> NDArray[np.float64]:
    """(B, count) how often each unit, such as a group, is drawn in each resample; the same in every run."""
    even = np.full(count, 1 / count)
    return np.random.default_rng(0).multinomial(count, even, resamples_for(count)).astype(np.float64)


def resampled_means(columns: ArrayLike, seed: int = 0, groups: Sequence[str] = ()) -> NDArray[np.float64]:
    """(B, M) means of (N, M) columns over B resamples of the rows, or of `groups` of them; the same in every run."""
    rows = np.asarray(columns, np.float64)
    if any(groups):  # resamples of groups differ in their number of rows: a mean divides by the number that was drawn
        sums = resampled_means(grouped(np.column_stack([rows, np.ones(len(rows))]), groups), seed)
        return sums[:, :-1] / sums[:, -1:]
    draw, count = np.random.default_rng(seed), len(rows)
    drawn = (rows[draw.integers(0, count, count)].mean(0) for _ in range(resamples_for(count)))
    return np.stack(list(drawn))


def percentile_interval(draws: ArrayLike) -> Interval:
    """The middle 95 % of the resamples."""
    values = np.asarray(draws, np.float64)
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), LEVEL, f"bootstrap, {len(values):,} resamples")


def varying_interval(draws: ArrayLike) -> Interval | None:
    """As `percentile_interval`; None where all resamples are equal, as when every object was found."""
    found = percentile_interval(draws)
    return found if found.low < found.high else None


def hits_interval(right: NDArray[Any], groups: Sequence[str]) -> Interval:
    """The interval of the share of samples that are `right` (N,): Wilson's, or by bootstrap over `groups`, whose
    samples are right or wrong together. For few groups, or where all samples are right, it is Wilson's with as many
    samples as there are groups."""
    count, n = drawn_count(groups, len(right)), len(right)
    if count == n:
        return wilson(int(right.sum()), n)
    hits = np.asarray(right, np.float64)
    return share_over_groups(float(hits.mean()), count, resampled_means(hits[:, None], groups=groups)[:, 0])


def share_over_groups(share: float, groups: int, draws: NDArray[np.float64]) -> Interval:
    """The interval of a share of samples in this number of groups, from the share in draws of groups (NaN where a draw
    has no such samples). For few groups, or where all draws agree, it is Wilson's with as many samples as there are
    groups."""
    known, over = draws[~np.isnan(draws)], several(groups, "group")
    drawn = varying_interval(known) if groups >= FEW else None
    if drawn is not None:
        return Interval(drawn.low, drawn.high, LEVEL, f"bootstrap over {over}")
    low, high = wilson_ends(share, groups)
    return Interval(float(low), float(high), LEVEL, f"Wilson over {over}")


EFFECTIVE = "Wilson, effective samples"
_BORROWED = 2
"""Number of samples, predicted as well as the average class, that are added to a class where its variance is estimated:
without them, a class of few samples that are all right would have a variance of 0."""


def shares_interval(hits: NDArray[Any], counts: NDArray[Any], weights: NDArray[Any], named: bool = False) -> Interval:
    """The interval of Σ weight × hits / count, for (K,) `hits`, `counts` and `weights` that sum to 1; it holds the sum.

    A class with a count of 0 counts as 0 hits of 1. `named`: the counts are random themselves, as in a precision; such
    shares may be too high by up to their variances, so that the low end is lowered by these. For classes of equal size,
    weight and accuracy, the interval is about Wilson's of all samples together.
    """
    counted = np.maximum(counts, 1)
    shares = hits / counted
    value = float(shares @ weights)
    low, high = (
        np.where(counts > 0, end, nothing) for end, nothing in zip(wilson_ends(shares, counted), (0, 1), strict=True)
    )
    alone = float((weights * (shares - low)).max()), float((weights * (high - shares)).max())
    weighty = shares[weights > 0]
    if (weighty == 0).all() or (weighty == 1).all():
        return _interval(round(value), _effective_number(weights, counted), alone)
    variances = _variances(shares * counted, counted, value) / counted
    number = value * (1 - value) / float(weights**2 @ variances)
    return _interval(value, number, alone, lower=float(weights @ variances) if named else 0.0)


def f1_average_interval(confusion: NDArray[np.int64], weights: NDArray[Any]) -> Interval:
    """The interval of Σ weight × F1 of the classes of a (K, K) confusion matrix, each of which occurs in truth or in
    prediction.

    A mistake lowers the F1 of two classes: the variance is that of what each sample adds (K. Takahashi et al.,
    "Confidence interval for micro-averaged F1 and macro-averaged F1 scores", Applied Intelligence 2022). An F1 of few
    samples is too low by about its variance, so that the high end is raised by it.
    """
    hits, sizes = confusion.diagonal(), confusion.sum(0) + confusion.sum(1)
    scores = 2 * hits / sizes
    value = float(scores @ weights)
    low, high = (2 * end / (1 + end) for end in wilson_ends(hits / (sizes - hits), sizes - hits))  # as f1_interval
    alone = float((weights * (scores - low)).max()), float((weights * (high - scores)).max())
    if hits.sum() in (0, confusion.sum()):
        return _interval(round(value), _effective_number(weights, sizes / 2), alone)
    expected = (2 * hits + _BORROWED * value) / (sizes + _BORROWED)
    true, predicted = np.nonzero(confusion)
    each, lost = weights / sizes, weights * expected / sizes
    added = np.where(true == predicted, 2 * each[true], 0) - lost[true] - lost[predicted]
    number = value * (1 - value) / float(confusion[true, predicted] @ added**2)
    raised = float(weights @ (expected * (1 - expected) / sizes))
    return _interval(value, number, alone, raised=raised)


def _variances(hits: NDArray[Any], counts: NDArray[Any], value: float) -> NDArray[np.float64]:
    """(K,) the variance of one prediction of each class, without bias where all classes are predicted equally well."""
    expected = (hits + _BORROWED * value) / (counts + _BORROWED)
    return np.asarray(expected * (1 - expected) / (1 - counts / (counts + _BORROWED) ** 2), np.float64)


def _effective_number(weights: NDArray[Any], counts: NDArray[Any]) -> float:
    """The effective number of samples where all classes are predicted equally well."""
    return 1 / float(weights**2 @ (1 / counts))


def _interval(
    value: float, number: float, alone: tuple[float, float], *, lower: float = 0.0, raised: float = 0.0
) -> Interval:
    """Wilson's interval of `value` for a `number` of samples, its ends moved by `lower` and `raised`; at least as far
    from the value, below and above, as `alone`, that of a single class."""
    low, high = wilson_ends(value, number)
    low, high = min(low - lower, value - alone[0], value), max(high + raised, value + alone[1], value)
    return Interval(max(0.0, float(low)), min(1.0, float(high)), LEVEL, EFFECTIVE)
