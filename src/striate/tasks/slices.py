"""Where a network is better or worse than elsewhere, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control, fisher_exact

from striate.statistics.estimate import Estimate
from striate.statistics.intervals import wilson
from striate.tasks.figures import Slice
from striate.tasks.groups import Group

LEVEL = 0.05


def slices_of_hits(groups: Sequence[Group], right: NDArray[np.bool_]) -> tuple[Slice, ...]:
    """The accuracy of each group; Fisher's exact test against all other samples. `right` (N,)."""

    def measure(members: NDArray[np.bool_]) -> tuple[Estimate, float]:
        hits, n = int(right[members].sum()), int(members.sum())
        others, rest = int(right[~members].sum()), int((~members).sum())
        p = float(fisher_exact(np.array([[hits, n - hits], [others, rest - others]])).pvalue)
        return Estimate(hits / n, wilson(hits, n)), p

    return judged_slices(groups, measure)


def judged_slices(
    groups: Sequence[Group], measure: Callable[[NDArray[np.bool_]], tuple[Estimate, float]]
) -> tuple[Slice, ...]:
    """The slices as `measure` finds each: its figure, and the p-value of whether it differs from all others. Of those
    said to differ, at most 5 % are expected to do so by chance, however they overlap (Benjamini and Yekutieli 2001)."""
    measured = [measure(group.members) for group in groups]
    if not measured:
        return ()
    corrected = false_discovery_control([min(1.0, p) for _, p in measured], method="by")
    return tuple(
        Slice(group.by, group.name, int(group.members.sum()), figure, p, bool(level < LEVEL))
        for group, (figure, p), level in zip(groups, measured, corrected, strict=True)
    )
