"""Trials at other learning rates, with the user's own step: factors work on whatever rate it sets."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate

import pytest

from striate.doctor.evidence.rates import compounded_rates


def multiplied(factor: Callable[[int], float], epochs: int = 14, steps: int = 3, first: int = 1) -> list[float]:
    """The rates of all steps where each epoch multiplies the rate by a factor of its own."""
    rates = accumulate(range(first, first + epochs), lambda rate, epoch: rate * factor(epoch), initial=0.1)
    return [rate for rate in rates for _ in range(steps)]


FACTORS = [
    lambda epoch: 0.85**epoch,
    lambda epoch: 0.5 ** (epoch // 2),
    lambda epoch: 1 - epoch / 15,
    lambda epoch: 0.5 * (1 + math.cos(math.pi * epoch / 15)),
]


@pytest.mark.parametrize("factor", FACTORS)
def test_factors_of_the_first_rate_multiply_the_current_one(factor: Callable[[int], float]) -> None:
    for first in (0, 1, 2):
        assert compounded_rates(multiplied(factor, first=first)) is not None or (first == 2 and factor is FACTORS[1])
    assert compounded_rates([0.01, 0.05, *multiplied(factor)]) is not None  # after a warmup
    assert compounded_rates(multiplied(factor)[:9]) is None  # too few to tell


SCHEDULES = [
    lambda x: 0.5 * (1 + math.cos(math.pi * x)),
    lambda x: 1 - x,
    lambda x: (1 - x) ** 2,
    lambda x: (1 - x) ** 0.9,
    lambda x: 0.001**x,
    lambda x: 0.1 ** math.floor(4 * x),
    lambda x: math.exp(-5 * x * x),
    lambda x: 1 / (1 + 20 * x),
    lambda x: 1 - math.sqrt(x),
    lambda _: 0.1,
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_that_are_meant_do_not_multiply_so(schedule: Callable[[float], float]) -> None:
    for epochs in range(3, 120):
        for offset in (0, 1):
            rates = [schedule((epoch + offset) / (epochs + offset)) for epoch in range(epochs)]
            assert compounded_rates(rates) is None, (epochs, offset)
            assert compounded_rates([rate + 0.01 for rate in rates]) is None, (epochs, offset)
