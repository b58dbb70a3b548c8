"""Intervals of averages over classes: Wilson's, of as many samples as would vary as much as the average does.

Source: N. Dean and M. Pagano, "Evaluating confidence interval methods for binomial proportions in clustered surveys",
Journal of Survey Statistics and Methodology 2015 (Wilson's interval with the effective number of samples).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from striate.records import Interval
from striate.statistics.intervals import LEVEL

METHOD = "Wilson, effective samples"
_Z = float(norm.ppf(0.5 + LEVEL / 2))
_BORROWED = 2
"""So many samples, answered as all classes are on average, are added to a class where its variance is estimated: few
answers of which all are right do not mean that none could be wrong."""


def shares_interval(hits: NDArray[Any], counts: NDArray[Any], weights: NDArray[Any], named: bool = False) -> Interval:
    """The interval of Σ weight × hits / count, for (K,) `hits`, `counts` and `weights` that sum to 1; it holds the sum.

    A share of nothing counts as 0 of 1. `named`: the counts are themselves by chance, as in a precision; such shares
    may come out too high by as much as their variances, which the low end makes up for. Of classes of equally many
    samples and equal weights that are answered equally well, it is about Wilson's of all samples together.
    """
    counted = np.maximum(counts, 1)
    shares = hits / counted
    value = float(shares @ weights)
    low, high = (
        np.where(counts > 0, end, nothing) for end, nothing in zip(_wilson(shares, counted), (0, 1), strict=True)
    )
    alone = float((weights * (shares - low)).max()), float((weights * (high - shares)).max())
    weighty = shares[weights > 0]
    if (weighty == 0).all() or (weighty == 1).all():
        return _interval(round(value), _alike(weights, counted), alone)
    variances = _variances(shares * counted, counted, value) / counted
    number = value * (1 - value) / float(weights**2 @ variances)
    return _interval(value, number, alone, lower=float(weights @ variances) if named else 0.0)


def f1_average_interval(confusion: NDArray[np.int64], weights: NDArray[Any]) -> Interval:
    """The interval of Σ weight × F1 of the classes of a (K, K) confusion matrix, all of which are there or were named.

    A mistake lowers the F1 of two classes: the variance is that of what each sample adds (K. Takahashi et al.,
    "Confidence interval for micro-averaged F1 and macro-averaged F1 scores", Applied Intelligence 2022). An F1 of few
    samples comes out too low by about its variance, which the high end makes up for.
    """
    hits, sizes = confusion.diagonal(), confusion.sum(0) + confusion.sum(1)
    scores = 2 * hits / sizes
    value = float(scores @ weights)
    low, high = (2 * end / (1 + end) for end in _wilson(hits / (sizes - hits), sizes - hits))  # as f1_interval
    alone = float((weights * (scores - low)).max()), float((weights * (high - scores)).max())
    if hits.sum() in (0, confusion.sum()):
        return _interval(round(value), _alike(weights, sizes / 2), alone)
    expected = (2 * hits + _BORROWED * value) / (sizes + _BORROWED)
    true, predicted = np.nonzero(confusion)
    each, lost = weights / sizes, weights * expected / sizes
    added = np.where(true == predicted, 2 * each[true], 0) - lost[true] - lost[predicted]
    number = value * (1 - value) / float(confusion[true, predicted] @ added**2)
    raised = float(weights @ (expected * (1 - expected) / sizes))
    return _interval(value, number, alone, raised=raised)


def _variances(hits: NDArray[Any], counts: NDArray[Any], value: float) -> NDArray[np.float64]:
    """(K,) the variance of one answer of each class, without bias where all classes are answered equally well."""
    expected = (hits + _BORROWED * value) / (counts + _BORROWED)
    return np.asarray(expected * (1 - expected) / (1 - counts / (counts + _BORROWED) ** 2), np.float64)


def _alike(weights: NDArray[Any], counts: NDArray[Any]) -> float:
    """The effective number of samples where all classes are answered equally well."""
    return 1 / float(weights**2 @ (1 / counts))


def _wilson(share: Any, number: Any) -> tuple[Any, Any]:
    """Both ends of Wilson's interval of a share, or of an array of them; the number need not be whole."""
    shrink = 1 + _Z**2 / number
    center = (share + _Z**2 / (2 * number)) / shrink
    half = _Z / shrink * np.sqrt(share * (1 - share) / number + _Z**2 / (4 * number**2))
    return center - half, center + half


def _interval(
    value: float, number: float, alone: tuple[float, float], *, lower: float = 0.0, raised: float = 0.0
) -> Interval:
    """Wilson's interval of `value` for a `number` of samples, its ends moved by `lower` and `raised`; never nearer to
    the value than what a single class `alone` leaves open below and above."""
    low, high = _wilson(value, number)
    low, high = min(low - lower, value - alone[0], value), max(high + raised, value + alone[1], value)
    return Interval(max(0.0, float(low)), min(1.0, float(high)), LEVEL, METHOD)
