"""Which candidate is taken, from times alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from striate.inference.race import AHEAD, Timing, is_ahead, is_hopeless
from striate.training.plan.decide import budget_seconds
from striate.training.plan.plan_table import Candidate, choose

PLAIN = Candidate("fp32", "contiguous", 2)
LAST = replace(PLAIN, memory_format="channels_last")
BF16 = replace(LAST, precision="bf16")
BF16_PLAIN = replace(PLAIN, precision="bf16")
COMPILED = replace(BF16, compile="default")


def steady(milliseconds: float) -> Timing:
    return Timing(tuple(milliseconds / 1e3 * factor for factor in (0.995, 1.0, 1.005, 1.0, 1.0)))


@pytest.mark.parametrize(
    ("times", "chosen"),
    [
        ({PLAIN: 10, LAST: 7, BF16: 4}, BF16),
        ({PLAIN: 10, LAST: 10, BF16: 12}, PLAIN),
        ({PLAIN: 10, LAST: 9.9, BF16: 9.85}, PLAIN),  # below 2 %
        ({PLAIN: 10, LAST: 8.05, BF16: 8}, LAST),  # both ahead of plain; the plainer of the two
        # a half-way step is not taken for being near the fastest: it is not ahead of what is plainer, the fastest is
        ({PLAIN: 10, BF16_PLAIN: 9.85, BF16: 9.68}, BF16),
        ({BF16: 8, COMPILED: 7.9}, BF16),
        ({BF16: 8, COMPILED: 6}, COMPILED),
        ({replace(PLAIN, threads=1): 5, PLAIN: 5}, replace(PLAIN, threads=1)),  # leaves a core to others
        ({PLAIN: 10, replace(PLAIN, allocator="keep"): 9.9}, replace(PLAIN, allocator="keep")),  # as plain: the faster
    ],
)
def test_the_plainest_of_the_fastest(times: dict[Candidate, float], chosen: Candidate) -> None:
    assert choose({one: steady(time) for one, time in times.items()}) == chosen


def test_what_is_uncertain_is_no_gain() -> None:
    wide = Timing((0.008, 0.010, 0.012, 0.009, 0.011))  # 10 ± 0.45
    assert not is_ahead(Timing((0.0096,) * 5), wide)
    assert is_ahead(Timing((0.0096,) * 5), steady(10))
    assert is_ahead(Timing((0.0094,) * 5), wide)


def test_one_slow_round_is_no_spread() -> None:
    assert Timing((0.01, 0.01, 0.01, 0.01, 0.5)).half_interquartile_range == 0
    assert Timing((0.01, 0.01, 0.01, 0.01, 0.5)).seconds == 0.01


def test_the_hopeless_are_left_out_early_and_the_close_are_not() -> None:
    best = steady(10)
    assert is_hopeless(Timing((0.017,)), best)
    assert not is_hopeless(Timing((0.014,)), best)
    assert is_hopeless(Timing((0.014, 0.013)), best)
    assert not is_hopeless(Timing((0.014, 0.011)), best)


@given(st.dictionaries(st.sampled_from([PLAIN, LAST, BF16_PLAIN, BF16, COMPILED]), st.floats(1e-5, 10), min_size=1))
def test_what_is_chosen_is_never_far_behind(times: dict[Candidate, float]) -> None:
    chosen = choose({one: Timing((time,) * 3) for one, time in times.items()})
    assert (1 - AHEAD) * times[chosen] <= min(times.values()) * (1 + 1e-9)
    # One that was passed over may have been slower than the next by less than 2 %.
    assert all(times[chosen] < time for one, time in times.items() if one.plainness < chosen.plainness)


@pytest.mark.parametrize(("expected", "budget"), [(1, 0.015), (60, 0.9), (600, 9), (3600, 18), (36_000, 60), (1e6, 60)])
def test_planning_is_small_against_the_run(expected: float, budget: float) -> None:
    assert budget_seconds(expected) == pytest.approx(budget)


def test_names_say_what_is_unusual() -> None:
    assert PLAIN.name == "fp32, contiguous, 2 threads"
    kept = replace(COMPILED, threads=1, allocator="keep")
    assert kept.name == "bf16, channels_last, 1 thread, compiled, reuses freed memory"
