"""Whether two methods differ on the same samples by more than noise: exact, permutation and bootstrap tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

LEVEL = 0.05
"""A difference that noise would make more rarely than this is more than noise."""


_RESAMPLES = 2000


FEW = 20
"""Of fewer samples a bootstrap's interval is too narrow: it is not given."""


Lead = Callable[[NDArray[Any], NDArray[Any]], float]
"""How far the second method leads, from a row a sample of the first and of the second."""


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p-value of McNemar's exact test: `only_first` samples are right by the first method alone.

    Without samples on which the two differ there is nothing to tell them apart: 1. Source: Q. McNemar, "Note on the
    sampling error of the difference between correlated proportions or percentages", 1947.
    """
    differing = only_first + only_second
    return float(binomtest(only_first, differing, 0.5).pvalue) if differing else 1.0


def permutation_p(theirs: NDArray[Any], ours: NDArray[Any], lead: Lead, rng: np.random.Generator) -> float:
    """The two-sided p-value of the difference: were the two methods alike, each sample's pair could as well be the
    other way round. All ways for few samples, drawn ones (which include what was seen) for many, so that the chance of
    p < 0.05 without a difference is at most 0.05 for any n.

    Source: R. A. Fisher, "The Design of Experiments", 1935, section 21.
    """
    n = len(ours)
    every = 2**n <= _RESAMPLES
    rounds = 2**n if every else _RESAMPLES
    seen = abs(lead(theirs, ours)) * (1 - 1e-9)  # the sum of the same numbers in another order is the same sum
    axes = (slice(None), *[None] * (ours.ndim - 1))
    count = 0
    for k in range(rounds):
        swap = (k >> np.arange(n)) & 1 if every else rng.integers(0, 2, n)
        chosen = swap.astype(bool)[axes]
        count += abs(lead(np.where(chosen, ours, theirs), np.where(chosen, theirs, ours))) >= seen
    return count / rounds if every else (count + 1) / (rounds + 1)


def bootstrap_interval(
    theirs: NDArray[Any], ours: NDArray[Any], lead: Lead, rng: np.random.Generator
) -> tuple[float, float]:
    """The middle 95 % of the differences on samples drawn anew with replacement."""
    n = len(ours)
    draws = (rng.integers(0, n, n) for _ in range(_RESAMPLES))
    drawn = [lead(theirs[places], ours[places]) for places in draws]
    low, high = np.quantile(drawn, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def p_text(p: float) -> str:
    """`= 0.031`, `= 0.0042`, `< 0.0001`."""
    return "< 0.0001" if p < 0.0001 else f"= {p:.4f}" if p < 0.01 else f"= {p:.3f}"


def signed(value: float) -> str:
    """Three digits, with a minus sign as it is printed."""
    return f"{value:.3g}".replace("-", "−")
