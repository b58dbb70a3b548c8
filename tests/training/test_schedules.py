"""Schedules as closed formulas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from striate.training.config import ScheduleConfig
from striate.training.optimizers import learning_rate_factor

NAMES = st.sampled_from(["one-cycle", "cosine", "step", "constant"])


@given(name=NAMES, steps=st.integers(1, 5000), warmup=st.floats(0, 0.9), final=st.floats(0, 1), data=st.data())
def test_the_factor_stays_between_zero_and_the_peak(name, steps, warmup, final, data) -> None:
    step = data.draw(st.integers(0, steps - 1))
    factor = learning_rate_factor(ScheduleConfig(name=name, warmup=warmup, final=final), step, steps)
    assert 0 <= factor <= 1


@pytest.mark.parametrize("name", ["one-cycle", "cosine"])
def test_it_begins_at_a_25th_peaks_after_the_warmup_and_ends_a_thousandth(name) -> None:
    schedule = ScheduleConfig(name=name, warmup=0.25, final=0.001)
    factors = [learning_rate_factor(schedule, step, 101) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 25)
    assert factors[25] == pytest.approx(1.0)
    assert factors[100] == pytest.approx(0.001)
    assert factors.index(max(factors)) == 25


def test_one_cycle_rises_by_a_cosine_and_cosine_by_a_line() -> None:
    eighth = {n: learning_rate_factor(ScheduleConfig(name=n, warmup=0.5), 10, 81) for n in ("one-cycle", "cosine")}
    assert eighth["cosine"] == pytest.approx(1 / 25 + (24 / 25) * 0.25)
    assert eighth["one-cycle"] == pytest.approx(1 / 25 + (24 / 25) * (1 - 2**-0.5) / 2)


def test_step_drops_at_its_milestones() -> None:
    schedule = ScheduleConfig(name="step", milestones=(0.5, 0.75), factor=0.1)
    factors = [learning_rate_factor(schedule, step, 8) for step in range(8)]
    assert factors == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
