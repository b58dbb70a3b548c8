"""The verdict on trials whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.training.learning_rate.judge import judge, mean_scores
from striate.training.learning_rate.records import RateTrial

START, CONSTANT = 2.4, 2.3
RATES = [1e-3 * 10 ** (k / 2) for k in range(7)]


def trials(losses, seeds: int = 3, noise: float = 0.0, shift: float = 0.0) -> list[RateTrial]:
    """A trial of each rate (None diverges) and seed; `noise` relative, `shift` what each seed adds to all rates."""
    rng = np.random.default_rng(0)
    made = []
    for lr, loss in zip(RATES, losses, strict=False):
        for seed in range(seeds):
            held = None if loss is None else loss * math.exp(noise * rng.normal() + shift * seed)
            made.append(RateTrial(lr, seed, START, 1.0, held, held is None))
    return made


def valley(center: float, width: float = 0.4) -> list[float]:
    """Losses that double within `width` decades of the best rate."""
    return [0.3 * 2 ** ((math.log10(lr / center) / width) ** 2) for lr in RATES]


@settings(deadline=None)
@given(center=st.floats(2e-3, 0.5), noise=st.floats(0, 0.1), shift=st.floats(-0.3, 0.3))
def test_the_bottom_of_a_valley_is_found(center: float, noise: float, shift: float) -> None:
    verdict = judge(trials(valley(center), noise=noise, shift=shift), START, CONSTANT)
    assert verdict.best is not None
    assert center / 2.5 < verdict.best < center * 2.5
    assert verdict.low <= verdict.best <= verdict.high


def test_what_a_seed_adds_to_every_rate_is_no_noise() -> None:
    calm, shifted = (judge(trials(valley(0.03), shift=s), START, CONSTANT) for s in (0.0, 0.2))
    assert [r.good for r in calm.rates] == [r.good for r in shifted.rates]
    assert shifted.why == "in trials, 0.0316228 was better than its neighbors by more than noise"


def test_more_noise_makes_the_range_wider() -> None:
    widths = []
    for noise in (0.0, 0.2, 0.5):
        verdict = judge(trials(valley(0.03, 0.8), noise=noise), START, CONSTANT)
        widths.append(verdict.high / verdict.low)
    assert widths == sorted(widths)
    assert widths[0] == 1.0 < widths[-1]


@pytest.mark.parametrize(
    ("losses", "start", "said"),
    [
        ([2.3] * 7, 2.4, "best constant prediction"),
        ([2.5, 2.4, 2.31, 2.35, 2.6, None, None], 9.0, "best constant prediction"),
        ([0.5] * 7, 0.5, "before the first step"),
        ([0.5] * 7, 2.4, "end within the noise"),
        ([None] * 7, 2.4, "every rate diverged, down to 0.001"),
    ],
)
def test_it_says_when_there_is_nothing_to_tell(losses, start: float, said: str) -> None:
    verdict = judge(trials(losses, noise=0.01), start, CONSTANT)
    assert (verdict.best, verdict.low, verdict.high) == (None, None, None)
    assert said in verdict.why
    assert not any(rate.good for rate in verdict.rates)


def test_a_rate_that_diverged_once_is_never_good() -> None:
    made = trials(valley(0.03))
    best = next(k for k, t in enumerate(made) if t.lr == pytest.approx(0.0316, rel=0.01))
    made[best] = RateTrial(made[best].lr, 0, START, math.inf, None, True)
    verdict = judge(made, START, CONSTANT)
    assert made[best].lr not in (verdict.low, verdict.high)
    assert next(r for r in verdict.rates if r.lr == made[best].lr).diverged


def test_the_range_ends_at_the_first_rate_that_is_worse() -> None:
    verdict = judge(trials([0.3, 0.9, 0.3, 0.31, 0.9, 0.3, 0.9], noise=0.001), START, CONSTANT)
    good = [rate.lr for rate in verdict.rates if rate.good]
    assert good in ([RATES[0]], [RATES[2]], [RATES[5]])


def test_rates_with_different_seeds_are_compared_fairly() -> None:
    """The second seed measures on easier samples: who has it must not gain by it."""
    made = [t for t in trials([0.3, 0.4, 0.5], seeds=2, shift=-2.0) if t.seed == 0 or t.lr != RATES[0]]
    means = mean_scores(made, CONSTANT)
    assert sorted(means, key=means.get) == RATES[:3]


def test_losses_that_are_almost_nothing_are_alike() -> None:
    verdict = judge(trials([0.5, 1e-6, 1e-5, 1e-7, 0.5, 2.0, 2.0]), START, CONSTANT)
    assert [rate.good for rate in verdict.rates] == [False, True, True, True, False, False, False]


def test_seeds_that_end_near_nothing_are_not_held_against_a_loss_that_fell() -> None:
    made = trials([1.0, 4e-4, 0.0, 0.0, 0.0, None], seeds=1)
    made += [
        RateTrial(lr, 1, START, 1.0, loss, False) for lr, loss in zip(RATES[1:], [4e-4, 0.4, 0.0, 1.5], strict=False)
    ]
    verdict = judge(made, START, CONSTANT)
    assert verdict.low == RATES[1]
    assert "within noise (a factor of " in verdict.why
