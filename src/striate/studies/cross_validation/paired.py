"""What figures of folds say beyond these folds, though folds share most of what they learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
METHOD = "corrected resampled t (Nadeau and Bengio 2003)"


@dataclass(frozen=True)
class ResampledMean:
    """The mean of a figure over folds with its 95 % interval, and the two-sided `p_value` of its being 0.

    The interval and the p-value are None where one fold, or no spread at all, leaves nothing to compute them from.
    """

    mean: float
    interval: tuple[float, float] | None
    p_value: float | None


def resampled_mean(values: Sequence[float], held_share: float) -> ResampledMean:
    """The corrected resampled t-test of `values`, one a fold; `held_share` = n held out / n learned from.

    Folds overlap in what they learn from, so the variance of their mean is not s²/J: it is estimated by
    (1/J + held_share) s², with J − 1 degrees of freedom. Source: C. Nadeau and Y. Bengio, "Inference for the
    generalization error", Machine Learning 52, 2003, section 4.
    """
    numbers = np.asarray(values, np.float64)
    count, mean = len(numbers), float(numbers.mean())
    spread = float(numbers.std(ddof=1)) if count > 1 else 0.0
    # The mean of equal numbers may differ from them by a rounding error, which would pass for a tiny spread.
    if spread <= 1e-12 * max(1.0, float(np.abs(numbers).max())):
        return ResampledMean(mean, None, None)
    error = spread * (1 / count + held_share) ** 0.5
    low, high = stats.t.interval(LEVEL, count - 1, loc=mean, scale=error)
    p = 2 * float(stats.t.sf(abs(mean) / error, count - 1))
    return ResampledMean(mean, (float(low), float(high)), p)
