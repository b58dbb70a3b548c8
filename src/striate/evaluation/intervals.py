"""How far a proportion measured on n samples may lie from the truth."""

from __future__ import annotations

from scipy.stats import binomtest

from striate.records import Interval

METHOD = "Wilson"


def wilson(hits: int, n: int, level: float = 0.95) -> Interval:
    """The Wilson score interval of the proportion `hits / n`, both ends in 0 to 1.

    Unlike the textbook `p ± 1.96 √(p(1-p)/n)` it never leaves [0, 1] and stays honest where p is 0 or 1.
    Without samples (n = 0) nothing is known: [0, 1].
    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    if n == 0:
        return Interval(0.0, 1.0, level, METHOD)
    interval = binomtest(hits, n).proportion_ci(confidence_level=level, method="wilson")
    return Interval(float(interval.low), float(interval.high), level, METHOD)
