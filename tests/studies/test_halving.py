"""Rungs, and who goes on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from striate.studies.sweep.space import is_promoted, rung_epochs

scores = st.lists(st.floats(-10, 10), max_size=60)


def test_rungs_are_a_ninth_a_third_and_all() -> None:
    assert rung_epochs(9) == (1, 3, 9)
    assert rung_epochs(12) == (1, 4, 12)
    assert rung_epochs(90) == (10, 30, 90)
    assert rung_epochs(2) == (1, 1, 2)
    assert rung_epochs(1) == (1, 1, 1)


@given(st.integers(1, 10_000))
def test_rungs_rise_to_all_epochs(epochs: int) -> None:
    first, second, last = rung_epochs(epochs)
    assert 1 <= first <= second <= last == epochs


def test_the_best_third_goes_on_and_of_equals_the_earlier() -> None:
    assert is_promoted(0.5, [])
    assert is_promoted(0.6, [0.5])
    assert not is_promoted(0.5, [0.5])
    assert not is_promoted(0.4, [0.5])
    assert is_promoted(0.7, [0.9, 0.1, 0.2, 0.3, 0.4])  # the second of six
    assert not is_promoted(0.7, [0.9, 0.8, 0.2, 0.3, 0.4])
    assert is_promoted(0.1, [float("-inf")])


@given(scores)
def test_the_first_and_the_best_go_on_in_any_order(values: list[float]) -> None:
    passed = [is_promoted(value, values[:k]) for k, value in enumerate(values)]
    if values:
        assert passed[0]
        best = max(range(len(values)), key=lambda k: (values[k], -k))
        assert passed[best]


def test_of_random_trials_about_a_third_goes_on() -> None:
    import numpy as np

    counts = []
    for seed in range(20):
        values = np.random.default_rng(seed).random(30).tolist()
        counts.append(sum(is_promoted(v, values[:k]) for k, v in enumerate(values)))
    assert 9 <= np.mean(counts) <= 13
