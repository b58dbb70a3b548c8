"""How far a figure measured on n samples may lie from the truth: 95 % intervals by formula."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.optimize import brentq
from scipy.stats import binomtest, norm

from striate.records import Interval

METHOD = "Wilson"
LEVEL = 0.95


def wilson(hits: int, n: int, level: float = LEVEL) -> Interval:
    """The Wilson score interval of the proportion `hits / n`, both ends in 0 to 1.

    Unlike the textbook `p ± 1.96 √(p(1-p)/n)` it never leaves [0, 1] and stays honest where p is 0 or 1.
    Without samples (n = 0) nothing is known: [0, 1].
    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    if n == 0:
        return Interval(0.0, 1.0, level, METHOD)
    # Tested against the share itself, so that no p-value is searched for.
    interval = binomtest(hits, n, hits / n).proportion_ci(confidence_level=level, method="wilson")
    return Interval(float(interval.low), float(interval.high), level, METHOD)


def f1_interval(hits: int, others: int, level: float = LEVEL) -> Interval:
    """The interval of F1 = 2 hits / (2 hits + others), `others` being samples of the class missed or wrongly taken.

    Of the samples that are of the class or were taken for it, the share J that is both is a proportion, with Wilson's
    interval; F1 = 2J / (1 + J) rises with it.
    """
    both = wilson(hits, hits + others, level)
    low, high = (2 * end / (1 + end) for end in (both.low, both.high))
    return Interval(low, high, level, "Wilson, of the overlap")


def auc_interval(auc: float, positives: int, negatives: int, level: float = LEVEL) -> Interval:
    """The score interval of an area under a ROC curve, in 0 to 1 also where the area is 1.

    Source: R. G. Newcombe, "Confidence intervals for an effect size measure based on the Mann–Whitney statistic. Part
    2", Statistics in Medicine 2006, method 5.
    """
    z = norm.ppf(0.5 + level / 2)
    more = (positives + negatives) / 2 - 1

    def variance(area: float) -> float:
        return area * (1 - area) * (1 + more * ((1 - area) / (2 - area) + area / (1 + area))) / (positives * negatives)

    def distance(area: float) -> float:
        return (area - auc) ** 2 - z * z * variance(area)

    # At the area itself the distance is below zero, at 0 and 1, where the variance is 0, above.
    low = 0.0 if auc <= 0 else brentq(distance, 0, min(auc, 1 - 1e-12))
    high = 1.0 if auc >= 1 else brentq(distance, max(auc, 1e-12), 1)
    return Interval(float(low), float(high), level, "Newcombe")


def average_precision_interval(average_precision: float, positives: int, level: float = LEVEL) -> Interval:
    """The interval of an average precision, which varies about as a proportion of the positives does; in Wilson's form.

    Source: K. Boyd, K. H. Eng and C. D. Page, "Area under the precision-recall curve: point estimates and confidence
    intervals", ECML 2013 (the binomial interval).
    """
    z2 = norm.ppf(0.5 + level / 2) ** 2
    center = (average_precision + z2 / (2 * positives)) / (1 + z2 / positives)
    spread = average_precision * (1 - average_precision) / positives + z2 / (4 * positives**2)
    half = math.sqrt(z2 * spread) / (1 + z2 / positives)
    return Interval(max(0.0, center - half), min(1.0, center + half), level, "binomial")


def sum_interval(
    values: Sequence[float], intervals: Sequence[Interval], weights: Sequence[float], level: float = LEVEL
) -> Interval:
    """The interval of Σ weight × value of independent values, from the intervals of each; weights may be negative.

    Source: G. Y. Zou and A. Donner, "Construction of confidence limits about effect measures", Statistics in Medicine
    2008 (MOVER); for the difference of two proportions it is Newcombe's interval of 1998.
    """
    below = above = total = 0.0
    for value, interval, weight in zip(values, intervals, weights, strict=True):
        down, up = weight * (value - interval.low), weight * (interval.high - value)
        if weight < 0:
            down, up = -up, -down
        below, above, total = below + down * down, above + up * up, total + weight * value
    return Interval(total - math.sqrt(below), total + math.sqrt(above), level, "MOVER")
