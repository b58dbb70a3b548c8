"""Where a network is better or worse than elsewhere, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, fisher_exact, mannwhitneyu

from striate.evaluation.assessment.groups import Group
from striate.evaluation.assessment.record import Estimate, Slice
from striate.evaluation.assessment.resample import FEW, percentile_interval, resampled_means
from striate.evaluation.intervals import wilson

LEVEL = 0.05


def slices_of_hits(groups: Sequence[Group], right: NDArray[np.bool_]) -> tuple[Slice, ...]:
    """The accuracy of each group; Fisher's exact test against all other samples. `right` (N,)."""

    def measure(members: NDArray[np.bool_]) -> tuple[Estimate, float]:
        hits, n = int(right[members].sum()), int(members.sum())
        others, rest = int(right[~members].sum()), int((~members).sum())
        p = float(fisher_exact(np.array([[hits, n - hits], [others, rest - others]])).pvalue)
        return Estimate(hits / n, wilson(hits, n)), p

    return _judged(groups, measure)


def slices_of_errors(groups: Sequence[Group], errors: NDArray[np.float64]) -> tuple[Slice, ...]:
    """The RMSE of each group; the rank test of Mann and Whitney against all other samples.

    `errors` (N,): root mean squared error of each sample.
    """

    def measure(members: NDArray[np.bool_]) -> tuple[Estimate, float]:
        own = errors[members] ** 2
        p = float(mannwhitneyu(own, errors[~members] ** 2).pvalue)
        interval = None
        if len(own) >= FEW:
            interval = percentile_interval(np.sqrt(resampled_means(own[:, None])[:, 0]))
        return Estimate(float(np.sqrt(own.mean())), interval), p

    return _judged(groups, measure)


def _judged(
    groups: Sequence[Group], measure: Callable[[NDArray[np.bool_]], tuple[Estimate, float]]
) -> tuple[Slice, ...]:
    """Of the slices said to differ, at most 5 % are expected to do so by chance, however they overlap (Benjamini and
    Yekutieli, 2001)."""
    measured = [measure(group.members) for group in groups]
    if not measured:
        return ()
    corrected = false_discovery_control([min(1.0, p) for _, p in measured], method="by")
    return tuple(
        Slice(group.by, group.name, int(group.members.sum()), figure, p, bool(level < LEVEL))
        for group, (figure, p), level in zip(groups, measured, corrected, strict=True)
    )
