"""The bootstrap: what a figure would be for other samples of the same kind."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.records import Interval
from striate.statistics.intervals import LEVEL

RESAMPLES, FEWEST = 1000, 200
_DRAWS = 10_000_000
"""So many numbers are drawn for one figure: of large splits fewer resamples, which vary less."""
FEW = 20
"""Of fewer samples a bootstrap's interval is too narrow: it is not given."""


def resamples_for(items: int) -> int:
    """How many resamples of so many items are drawn."""
    return max(FEWEST, min(RESAMPLES, _DRAWS // max(1, items)))


def resampled_means(columns: ArrayLike, seed: int = 0) -> NDArray[np.float64]:
    """(B, M) means of (N, M) columns over B resamples of the rows, the same in every run."""
    rows = np.asarray(columns, np.float64)
    draw, count = np.random.default_rng(seed), len(rows)
    drawn = (rows[draw.integers(0, count, count)].mean(0) for _ in range(resamples_for(count)))
    return np.stack(list(drawn))


def percentile_interval(draws: ArrayLike) -> Interval:
    """The middle 95 % of what resampling gave."""
    values = np.asarray(draws, np.float64)
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high), LEVEL, f"bootstrap, {len(values):,} resamples")
