"""What short trainings say of a long one: between bounds, monotonic, and honest about what came."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from striate.training.budget.forecast import (
    Forecast,
    ShortTraining,
    effective_steps,
    extrapolate,
    forecast_from_json,
    with_outcome,
)

NEW = {"epoch_steps": 10_000, "varied": False}
"""No sample is seen twice."""


@st.composite
def curves(draw: st.DrawFn) -> list[ShortTraining]:
    longest = draw(st.integers(8, 10_000))
    errors = draw(st.lists(st.floats(0, 1), min_size=2, max_size=3))
    return [ShortTraining(max(1, longest // 2 ** (len(errors) - 1 - k)), e) for k, e in enumerate(errors)]


@given(curves(), st.integers(1, 10**7), st.floats(0.1, 0.99))
def test_the_interval_holds_what_is_expected_and_is_never_worse_than_chance(short, steps, chance) -> None:
    low, expected, high = extrapolate(short, max(steps, short[-1].steps), chance, epoch_steps=100, varied=False)
    assert 0 <= 1 - chance - 1e-12 <= low <= expected <= high <= 1


@given(curves(), st.integers(1, 10**6), st.integers(2, 100))
def test_more_steps_promise_no_less(short, steps, factor) -> None:
    steps = max(steps, short[-1].steps)
    fewer, more = (extrapolate(short, n, 0.9, epoch_steps=100, varied=True) for n in (steps, factor * steps))
    assert all(b >= a - 1e-12 for a, b in zip(fewer, more, strict=True))


@pytest.mark.parametrize("power", [0.2, 0.3, 0.5])
def test_a_law_of_known_power_is_met(power) -> None:
    def error(steps: int) -> float:
        return 2.0 * steps**-power

    short = [ShortTraining(n, error(n)) for n in (25, 50, 100)]
    low, expected, high = extrapolate(short, 3000, 0.9, **NEW)
    assert low < 1 - error(3000) < high
    assert 1 - expected == pytest.approx(error(100) * 30 ** (-0.55 * power))
    assert 1 - low == pytest.approx(1.2 * error(100) * 30 ** (-0.35 * power))
    assert 1 - high == pytest.approx(error(100) * 30 ** (-1.5 * power) / 1.2)


@given(st.integers(1, 10**6), st.integers(1, 1000), st.booleans())
def test_samples_seen_again_count_for_less_and_ever_less(steps, epoch_steps, varied) -> None:
    now, next_epoch = (effective_steps(n, epoch_steps, varied=varied) for n in (steps, steps + epoch_steps))
    assert 0 < now <= steps + 1e-9
    assert now <= next_epoch <= now + epoch_steps * (1 + 1e-9)
    assert now <= epoch_steps * (61 if varied else 16)
    if steps <= epoch_steps:
        assert now == steps
    assert effective_steps(steps, epoch_steps, varied=True) >= effective_steps(steps, epoch_steps, varied=False) - 1e-9


def test_fifteen_further_passes_are_worth_nine_and_a_half() -> None:
    assert effective_steps(1600, 100, varied=False) == pytest.approx(100 * (1 + 15 * (1 - 1 / 2.718281828)))


def test_a_curve_that_does_not_fall_promises_little() -> None:
    flat = [ShortTraining(n, 0.5) for n in (25, 50, 100)]
    steep = [ShortTraining(25, 0.8), ShortTraining(50, 0.65), ShortTraining(100, 0.5)]
    assert extrapolate(flat, 3000, 0.9, **NEW)[1] < extrapolate(steep, 3000, 0.9, **NEW)[1]


def test_no_mistake_in_a_short_training_is_no_promise_of_perfection_beyond_reason() -> None:
    low, expected, high = extrapolate([ShortTraining(10, 0.01), ShortTraining(20, 0.0)], 1000, 0.9, **NEW)
    assert 0.99 < low <= expected <= high <= 1


FORECAST = Forecast(1000, 65.4, (0.9, 0.98), 0.96, (ShortTraining(5, 0.4), ShortTraining(20, 0.2)))


def test_it_is_one_line() -> None:
    accuracy = "val accuracy 90.0 to 98.0 % (extrapolated from 2 short trainings)"
    assert str(FORECAST) == f"forecast: 1 min 5 s in total, {accuracy}"
    assert str(Forecast(10, 31.0)) == "forecast: 31 s in total"


@pytest.mark.parametrize("forecast", [FORECAST, Forecast(10, 31.0)])
def test_it_is_what_its_plain_values_say(forecast) -> None:
    assert forecast_from_json(forecast.to_json()) == forecast


@pytest.mark.parametrize(
    ("reached", "whole", "within"),
    [(0.95, True, True), (0.89, True, False), (0.99, True, False), (None, True, None), (0.95, False, None)],
)
def test_what_came_stands_beside_it(reached, whole, within) -> None:
    values = with_outcome(FORECAST, 70.123, reached, whole=whole)
    assert values["seconds"] == 65.4
    assert values["accuracy"] == [0.9, 0.98]
    assert (values["seconds_taken"], values["accuracy_reached"], values["within_interval"]) == (70.1, reached, within)


def test_a_forecast_without_accuracy_has_no_hit_and_no_miss() -> None:
    assert with_outcome(Forecast(10, 31.0), 30.0, 0.9, whole=True)["within_interval"] is None
