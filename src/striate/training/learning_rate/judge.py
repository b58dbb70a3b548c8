"""From trials to a verdict: the mean of each rate, the noise between seeds, and which rates are as good within it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from striate.training.learning_rate.records import Rate, Trial

_FLOOR = 0.01  # of the constant prediction's loss: below, one loss is as good as another
_NEAR = math.log(2.0)  # rates whose loss is within this factor of the best tell how large the noise is
_FEWEST_NEAR = 3
_WIDE = math.log(10.0)  # noise beyond this reads better as a factor
_LEVEL = 0.95
_LEAST = 0.02  # relative difference of losses that nobody cares about
_WIDEST = 300.0  # the highest good rate over the lowest, from which on there was nothing to tell apart


@dataclass(frozen=True)
class Verdict:
    """The judged rates in ascending order; the best rate of a trial, with the range of those that were as good within
    noise (None where there is none); and why."""

    rates: tuple[Rate, ...]
    best: float | None
    low: float | None
    high: float | None
    why: str


def scores(trials: Sequence[Trial], constant: float) -> dict[float, dict[int, float]]:
    """For each rate that never diverged, by seed: the logarithm of the held-out loss as a share of the constant
    prediction's. Lower is better; differences are relative ones."""
    diverged = {t.lr for t in trials if t.diverged}
    found: dict[float, dict[int, float]] = {}
    for trial in sorted(trials, key=lambda t: t.lr):
        if trial.lr not in diverged and trial.held_out is not None:
            found.setdefault(trial.lr, {})[trial.seed] = _score(trial.held_out, constant)
    return found


def _score(loss: float, constant: float) -> float:
    return math.log((loss / constant if constant > 0 else loss) + _FLOOR)


def mean_scores(trials: Sequence[Trial], constant: float) -> dict[float, float]:
    """The mean score of each rate that never diverged. Seeds differ in what they are measured on, so each rate is
    compared with the mean of its own seeds over the rates that have the first seed and those."""
    found = scores(trials, constant)
    seeds = sorted({seed for values in found.values() for seed in values})
    first = {lr: values[0] for lr, values in found.items() if 0 in values}
    offset = dict.fromkeys(seeds, 0.0)
    for seed in seeds:
        shared = [values[seed] - first[lr] for lr, values in found.items() if seed in values and lr in first]
        offset[seed] = float(np.mean(shared)) if shared else 0.0
    return {lr: float(np.mean([v - offset[seed] for seed, v in values.items()])) for lr, values in found.items()}


def judge(trials: Sequence[Trial], start: float, constant: float) -> Verdict:
    """The verdict on all trials. `start` and `constant` are the held-out losses of the network as it was and of the
    best constant prediction."""
    found = scores(trials, constant)
    seeds = max((len(values) for values in found.values()), default=0)
    full = {lr: np.array([values[k] for k in sorted(values)]) for lr, values in found.items() if len(values) == seeds}
    if not full:
        return _nothing(trials, f"every rate diverged, down to {min(t.lr for t in trials):.2g}")
    if seeds < 2:
        return _nothing(trials, "one trial of each rate does not separate a better rate from chance")
    lrs = sorted(full)
    table = np.array([full[lr] for lr in lrs])
    means = table.mean(axis=1)
    place = int(means.argmin())
    near = means <= max(means[place] + _NEAR, np.sort(means)[:_FEWEST_NEAR][-1])
    noise = _noise(table[near])
    margin = max(math.log1p(_LEAST), noise)
    before = _score(min(start, constant) if constant > 0 else start, constant)
    if not _has_fallen(table[near], before, margin):
        return _nothing(trials, _not_fallen(start, constant, noise))
    first, last = _stretch(means <= means[place] + margin, place)
    if lrs[last] / lrs[first] > _WIDEST:
        why = f"all rates from {lrs[first]:.2g} to {lrs[last]:.2g} end within the noise between seeds (±{noise:.0%})"
        return _nothing(trials, why)
    best = _middle(lrs[first : last + 1], means[first : last + 1], margin)
    good = frozenset(lrs[first : last + 1])
    size = f"±{math.expm1(margin):.0%} of the loss" if margin < _WIDE else f"a factor of {math.exp(margin):,.0f}"
    within = f"within noise ({size})"
    why = f"in trials, {lrs[first]:g} to {lrs[last]:g} were equally good {within}"
    if first == last:
        why = f"in trials, {lrs[first]:g} was better than its neighbors by more than noise"
    return Verdict(_rates(trials, good), best, lrs[first], lrs[last], why)


def _has_fallen(near: NDArray[np.float64], before: float, margin: float) -> bool:
    """Whether the best of these scores is below `before` by more than noise: of the logarithms, or of the losses
    themselves, where seeds that end near 0 differ by little and their logarithms by much."""
    if near.mean(axis=1).min() <= before - margin:
        return True
    losses = np.exp(near)
    return bool(losses.mean(axis=1).min() <= math.exp(before) - _noise(losses) - _LEAST)


def _noise(table: NDArray[np.float64]) -> float:
    """How far the means of two equally good rates come to lie apart, by seeds that all rates share (a two-way table of
    rates × seeds without interaction); 0 for a single rate or seed."""
    rates, seeds = table.shape
    if rates < 2 or seeds < 2:
        return 0.0
    residuals = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    freedom = (rates - 1) * (seeds - 1)
    variance = float((residuals**2).sum()) / freedom
    return float(stdtrit(freedom, (1 + _LEVEL) / 2)) * math.sqrt(2 * variance / seeds)


def _stretch(good: NDArray[np.bool_], place: int) -> tuple[int, int]:
    """First and last index of the unbroken stretch of good rates around `place`."""
    first = last = place
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(good) and good[last + 1]:
        last += 1
    return first, last


def _middle(lrs: Sequence[float], means: NDArray[np.float64], margin: float) -> float:
    """The middle of good rates on a logarithmic scale, better ones counting for more: among equals, the one that is
    furthest from where it stops being good."""
    weights = np.exp(-2 * ((means - means.min()) / margin) ** 2)
    middle = float(np.exp((weights * np.log(lrs)).sum() / weights.sum()))
    return min(max(middle, lrs[0]), lrs[-1])  # rounding


def _not_fallen(start: float, constant: float, noise: float) -> str:
    if start <= constant:
        return f"no rate ends below the loss before the first step, {start:.4g}, by more than noise (±{noise:.0%})"
    return (
        f"no rate ends below the loss of always giving the best constant prediction, {constant:.4g}, by more than noise"
    )


def _nothing(trials: Sequence[Trial], why: str) -> Verdict:
    return Verdict(_rates(trials, frozenset()), None, None, None, why)


def _rates(trials: Sequence[Trial], good: frozenset[float]) -> tuple[Rate, ...]:
    rates = []
    for lr in sorted({t.lr for t in trials}):
        own = [t for t in trials if t.lr == lr]
        losses = [t.held_out for t in own if t.held_out is not None]
        if len(losses) < len(own):
            rates.append(Rate(lr, None, None, None, len(own), False))
        else:
            rates.append(Rate(lr, sum(losses) / len(losses), min(losses), max(losses), len(own), lr in good))
    return tuple(rates)
