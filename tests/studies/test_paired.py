"""What folds say beyond these folds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from striate.studies.cross_validation.cv_summary import resampled_mean

VALUES = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=2, max_size=30)


@given(VALUES)
def test_without_overlap_it_is_the_ordinary_t_test(values: list[float]) -> None:
    assume(np.std(values) > 1e-6)
    found, usual = resampled_mean(values, 0.0), stats.ttest_1samp(values, 0.0)
    assert found.p_value == pytest.approx(usual.pvalue)
    assert found.interval == pytest.approx(tuple(usual.confidence_interval(0.95)))


@given(VALUES, st.floats(0.01, 1))
def test_overlap_makes_it_more_careful_and_both_answers_agree(values: list[float], share: float) -> None:
    assume(np.std(values) > 1e-6)
    found, careless = resampled_mean(values, share), resampled_mean(values, 0.0)
    assert found.p_value >= careless.p_value
    low, high = found.interval
    assume(abs(found.p_value - 0.05) > 1e-6)
    assert (found.p_value < 0.05) == (low > 0 or high < 0)


def test_the_figures_of_a_worked_example() -> None:
    # 1, 2, 3, 4, 5: mean 3, s² = 2.5; with a quarter held out for each learned from, the error is √((1/5 + 1/4) 2.5).
    found = resampled_mean([1, 2, 3, 4, 5], 0.25)
    error = (0.45 * 2.5) ** 0.5
    assert found.p_value == pytest.approx(2 * stats.t.sf(3 / error, 4))
    assert found.interval == pytest.approx((3 - 2.7764451 * error, 3 + 2.7764451 * error))


@pytest.mark.parametrize("values", [[0.9], [0.9] * 3, [0.1] * 3, [29 / 30] * 5, [1e9 + 0.1] * 7])
def test_nothing_is_claimed_without_spread(values: list[float]) -> None:
    # The mean of equal numbers may be a rounding error away from them, which is no spread.
    found = resampled_mean(values, 0.25)
    assert found.mean == pytest.approx(values[0])
    assert found.interval is None
    assert found.p_value is None
