from __future__ import annotations

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from striate.statistics.intervals import percentile_interval, varying_interval, wilson


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        # statsmodels.stats.proportion.proportion_confint(hits, n, method="wilson")
        (97, 100, 0.9154806, 0.9897455),
        (0, 10, 0.0, 0.2775328),
        (10, 10, 0.7224672, 1.0),
        (1, 2, 0.0945312, 0.9054688),
    ],
)
def test_known_values(hits, n, low, high):
    interval = wilson(hits, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-6)
    assert (interval.level, interval.method) == (0.95, "Wilson")


@given(st.integers(1, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_formula(case):
    hits, n = case
    p, z = hits / n, 1.959963984540054
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    interval = wilson(hits, n)
    assert (interval.low, interval.high) == pytest.approx((center - half, center + half), abs=1e-9)
    assert 0 <= interval.low <= p <= interval.high <= 1


def test_draws_that_agree_tell_nothing():
    assert varying_interval([1.0] * 200) is None
    assert varying_interval([0.5, 1.0] * 100) == percentile_interval([0.5, 1.0] * 100)


def test_nothing_is_known_without_samples():
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
