"""Intervals agree with published figures, and hold the truth about as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from striate.statistics.intervals import (
    auc_interval,
    average_precision_interval,
    f1_interval,
    percentile_interval,
    resampled_means,
    sum_interval,
    wilson,
)


def test_a_difference_of_proportions_is_newcombes():
    """R. G. Newcombe, "Interval estimation for the difference between independent proportions", 1998, table II, (a)."""
    interval = sum_interval([56 / 70, 48 / 80], [wilson(56, 70), wilson(48, 80)], [1, -1])
    assert (interval.low, interval.high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_interval_of_f1_holds_it_and_stays_within_bounds(hits, others):
    interval = f1_interval(hits, others)
    f1 = 2 * hits / (2 * hits + others) if hits + others else 0.5
    assert 0 <= interval.low <= f1 + 1e-12
    assert f1 - 1e-12 <= interval.high <= 1


@given(st.floats(0, 1), st.integers(1, 500), st.integers(1, 500))
def test_intervals_of_areas_hold_them_and_stay_within_bounds(area, positives, negatives):
    for interval in (auc_interval(area, positives, negatives), average_precision_interval(area, positives)):
        assert 0 <= interval.low <= area + 1e-9
        assert area - 1e-9 <= interval.high <= 1 + 1e-9


def test_f1_agrees_with_the_bootstrap():
    confusion = np.array([[80, 20, 5], [10, 90, 5], [3, 7, 80]])
    draws = np.random.default_rng(0).multinomial(300, confusion.ravel() / 300, 1000).reshape(-1, 3, 3)
    for k in range(3):
        hits = int(confusion[k, k])
        others = int(confusion[k].sum() + confusion[:, k].sum()) - 2 * hits
        drawn = percentile_interval(2 * draws[:, k, k] / (draws[:, k].sum(1) + draws[:, :, k].sum(1)))
        formula = f1_interval(hits, others)
        assert formula.low == pytest.approx(drawn.low, abs=0.012)
        assert formula.high == pytest.approx(drawn.high, abs=0.012)


@pytest.mark.slow
def test_areas_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    large = rng.normal(0, 1, 40_000) + 1.2 * (np.arange(40_000) % 2)
    positive = (np.arange(40_000) % 2).astype(bool)
    auc, precision = roc_auc_score(positive, large), average_precision_score(positive, large)
    held = []
    for _ in range(80):
        places = rng.integers(0, 40_000, 120)
        y, scores = positive[places], large[places]
        measured, own = float(roc_auc_score(y, scores)), float(average_precision_score(y, scores))
        area, line = (
            auc_interval(measured, int(y.sum()), int((~y).sum())),
            average_precision_interval(own, int(y.sum())),
        )
        held.append((area.low <= auc <= area.high, line.low <= precision <= line.high))
    shares = np.mean(held, 0)
    assert 0.9 <= shares[0] <= 1
    assert 0.9 <= shares[1] <= 1


def test_resamples_are_the_same_in_every_run_and_spread_as_the_theory_says():
    values = np.random.default_rng(1).normal(0, 1, (400, 1))
    draws = resampled_means(values)
    np.testing.assert_array_equal(draws, resampled_means(values))
    assert draws.std() == pytest.approx(values.std() / 20, rel=0.1)
