"""Steps and seconds on a clock that nobody waits for."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from striate.training.budget.pace import Pace, Phase, pace_from_json

TIMES = st.floats(1e-5, 2.0)


@st.composite
def paces(draw: st.DrawFn) -> Pace:
    weights = draw(st.lists(st.floats(0.05, 1), min_size=1, max_size=4))
    phases = tuple(Phase(w / sum(weights), draw(TIMES)) for w in weights)
    start, finish = draw(st.floats(0, 5)), draw(st.floats(0, 5))
    return Pace(phases, draw(st.floats(0, 3)), draw(st.integers(1, 500)), start, finish)


def simulated(pace: Pace, steps: int) -> float:
    """Every step on its own, with what it costs where it lies, and every validation."""
    clock = pace.start + pace.finish
    for step in range(steps):
        begun, share = 0.0, step / steps
        for phase in pace.phases:
            begun += phase.share
            if share < begun - 1e-9 or phase is pace.phases[-1]:
                clock += phase.seconds
                break
        if (step + 1) % pace.epoch_steps == 0 or step + 1 == steps:
            clock += pace.validation
    return clock


@given(paces(), st.integers(1, 800))
def test_the_sum_is_that_of_every_single_step(pace, steps) -> None:
    slowest = max(phase.seconds for phase in pace.phases)
    # A phase may end within a step.
    assert pace.seconds(steps) == pytest.approx(simulated(pace, steps), abs=len(pace.phases) * slowest, rel=1e-6)


@given(paces(), st.floats(0.1, 20_000))
def test_the_steps_fill_the_time_and_do_not_exceed_it(pace, seconds) -> None:
    steps = pace.steps_within(seconds)
    assert steps >= 1
    if pace.seconds(1) > seconds:
        assert steps == 1
        return
    assert pace.seconds(steps) <= seconds
    if steps % pace.epoch_steps:
        assert pace.seconds(steps + 1) > seconds
    else:  # whole epochs, where they leave next to nothing
        left = seconds - pace.seconds(steps)
        most = max(phase.seconds for phase in pace.phases) * 2 + pace.validation
        assert left <= 0.03 / 0.97 * seconds + most


@given(paces(), st.integers(2, 800), st.data())
def test_what_is_done_and_what_is_left_add_up(pace, steps, data) -> None:
    step = data.draw(st.integers(1, steps - 1))
    before, whole = pace.seconds_before(step, steps), pace.seconds_before(steps, steps)
    assert 0 <= before <= whole + 1e-9
    assert pace.seconds_before(step + 1, steps) >= before
    assume(steps % pace.epoch_steps == 0)
    assert whole + pace.start + pace.finish == pytest.approx(pace.seconds(steps))


def test_a_minute_of_even_steps() -> None:
    pace = Pace((Phase(1.0, 0.01),), validation=0.5, epoch_steps=100, start=1.0, finish=4.0)
    assert pace.steps_within(60.0) == 3600  # 55 s in 36 whole epochs of 1.5 s: 54 s, and 98 % of 55
    assert pace.seconds(3600) == pytest.approx(59.0)
    assert pace.steps_within(15.0) == 650  # 10 s: six epochs would leave a tenth unused
    assert pace.steps_within(5.8) == 30  # a part of an epoch
    assert pace.steps_within(0.1) == 1


def test_small_images_are_cheap_and_counted_so() -> None:
    pace = Pace((Phase(0.6, 0.01), Phase(0.4, 0.03)), validation=0.0, epoch_steps=10)
    assert pace.step_seconds == pytest.approx(0.018)
    assert pace.seconds(1000) == pytest.approx(18.0)
    assert pace.seconds_before(600, 1000) == pytest.approx(6.0)
    assert pace.seconds_before(800, 1000) == pytest.approx(12.0)


@given(paces())
def test_a_pace_is_what_its_plain_values_say(pace) -> None:
    assert pace_from_json(asdict(pace)) == pace
