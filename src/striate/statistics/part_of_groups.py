"""Whether some samples differ from all others, where samples of a group are alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from striate.statistics.intervals import drawn_units, resample_counts, resamples_for

_COUNTED = 10
"""From this number of permutations that reach the difference, the p-value is their share; with fewer, it follows from
the standard deviation of the permutations."""


def part_differs(values: NDArray[np.float64], members: NDArray[np.bool_], groups: Sequence[str]) -> float:
    """The two-sided p-value of a difference in the mean of `values` (N,) between `members` (N,) and all others, of
    samples in `groups`.

    Where each group is a member or not as a whole, by permutation of groups. Else by bootstrap over groups, with
    Student's distribution of as many degrees of freedom as the smaller side has groups, less 1; 1 where a side has
    only one.
    """
    units = drawn_units(groups, len(values))
    sides = np.stack([_sums(units, values, side) for side in (members, ~members)])  # (2, G, 2): sum and number
    there = sides[:, :, 1] > 0
    difference = float(_difference(sides.sum(1)))
    count = sides.shape[1]
    if not there.all(0).any():
        every, draw = sides.sum(0), np.random.default_rng(0)
        inside = np.stack([draw.permutation(there[0]) for _ in range(resamples_for(count))]).astype(np.float64)
        drawn = _difference(np.stack([inside @ every, (1 - inside) @ every]))
        reached = int((np.abs(drawn) >= abs(difference) * (1 - 1e-9)).sum())
        p = (1 + reached) / (1 + len(drawn))
        if reached < _COUNTED and drawn.std():
            p = math.erfc(abs(difference) / float(drawn.std()) / math.sqrt(2))
        return max(p, 1 / math.comb(count, int(there[0].sum())))
    fewest = int(there.sum(1).min())
    if fewest < 2:
        return 1.0
    weights = resample_counts(count)
    totals = np.stack([weights @ side for side in sides])
    drawn = _difference(totals[:, (totals[:, :, 1] > 0).all(0)])
    if len(drawn) < _COUNTED or not drawn.std():
        return 1.0
    from scipy.stats import t

    return float(2 * t.sf(abs(difference) / drawn.std(), fewest - 1))


def _sums(units: NDArray[np.int64], values: NDArray[np.float64], side: NDArray[np.bool_]) -> NDArray[np.float64]:
    count = int(units.max()) + 1
    return np.stack([np.bincount(units, part, count) for part in (values * side, side.astype(np.float64))], 1)


def _difference(totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """The difference of the means of both sides, from (2, …, 2) sums and numbers."""
    means = totals[..., 0] / totals[..., 1]
    difference: NDArray[np.float64] = means[0] - means[1]
    return difference
