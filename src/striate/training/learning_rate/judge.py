"""From trials to a verdict: the mean score of each rate, the noise between seeds, and the rates that are as good within
it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from striate.training.learning_rate.records import RateResult, RateTrial
from striate.wording import percent

_FLOOR = 0.01  # of the constant prediction's loss: added to losses, so that those near 0 count as equal
_NEAR = math.log(2.0)  # the noise is that of rates whose loss is within this factor of the best
_FEWEST_NEAR = 3
_WIDE = math.log(10.0)  # larger noise is written as a factor
_LEVEL = 0.95
_LEAST = 0.02  # relative difference of losses that counts as none
_WIDEST = 300.0  # highest good rate over the lowest: beyond, the trials cannot tell rates apart


@dataclass(frozen=True)
class Verdict:
    """The judgment of all trials."""

    rates: tuple[RateResult, ...]
    """The rates, ascending."""
    best: float | None
    """The best rate of a trial. None: the trials cannot tell."""
    low: float | None
    """The lowest rate that is as good within noise. None without a best one."""
    high: float | None
    """The highest rate that is as good within noise. None without a best one."""
    why: str
    """The reason, in words."""


def scores(trials: Sequence[RateTrial], constant: float) -> dict[float, dict[int, float]]:
    """For each rate that never diverged, by seed: the logarithm of the held-out loss over that of the constant
    prediction. Lower is better; differences are relative."""
    diverged = {t.lr for t in trials if t.diverged}
    found: dict[float, dict[int, float]] = {}
    for trial in sorted(trials, key=lambda t: t.lr):
        if trial.lr not in diverged and trial.held_out is not None:
            found.setdefault(trial.lr, {})[trial.seed] = _score(trial.held_out, constant)
    return found


def _score(loss: float, constant: float) -> float:
    return math.log((loss / constant if constant > 0 else loss) + _FLOOR)


def mean_scores(trials: Sequence[RateTrial], constant: float) -> dict[float, float]:
    """The mean score of each rate that never diverged. Seeds are measured on different samples, so each seed's scores
    are shifted to those of the first seed, by the rates that have both."""
    found = scores(trials, constant)
    seeds = sorted({seed for values in found.values() for seed in values})
    first = {lr: values[0] for lr, values in found.items() if 0 in values}
    offset = dict.fromkeys(seeds, 0.0)
    for seed in seeds:
        shared = [values[seed] - first[lr] for lr, values in found.items() if seed in values and lr in first]
        offset[seed] = float(np.mean(shared)) if shared else 0.0
    return {lr: float(np.mean([v - offset[seed] for seed, v in values.items()])) for lr, values in found.items()}


def judge(trials: Sequence[RateTrial], start: float, constant: float) -> Verdict:
    """The verdict on all trials. `start` and `constant` are the held-out losses of the untrained network and of the
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
    first, last = _good_range(means <= means[place] + margin, place)
    if lrs[last] / lrs[first] > _WIDEST:
        span = f"from {lrs[first]:.2g} to {lrs[last]:.2g}"
        return _nothing(trials, f"all rates {span} end within the noise between seeds (±{percent(noise, 0)})")
    best = _middle(lrs[first : last + 1], means[first : last + 1], margin)
    good = frozenset(lrs[first : last + 1])
    size = (
        f"±{percent(math.expm1(margin), 0)} of the loss" if margin < _WIDE else f"a factor of {math.exp(margin):,.0f}"
    )
    within = f"within noise ({size})"
    why = f"in trials, {lrs[first]:g} to {lrs[last]:g} were equally good {within}"
    if first == last:
        why = f"in trials, {lrs[first]:g} was better than its neighbors by more than noise"
    return Verdict(_rates(trials, good), best, lrs[first], lrs[last], why)


def _has_fallen(near: NDArray[np.float64], before: float, margin: float) -> bool:
    """Whether the best score is below `before` by more than noise; in logarithms, or in losses, where seeds that end
    near 0 differ little but their logarithms differ much."""
    if near.mean(axis=1).min() <= before - margin:
        return True
    losses = np.exp(near)
    return bool(losses.mean(axis=1).min() <= math.exp(before) - _noise(losses) - _LEAST)


def _noise(table: NDArray[np.float64]) -> float:
    """By how much the means of two equally good rates typically differ, from seeds that all rates share (a two-way
    table of rates × seeds without interaction); 0 for a single rate or seed."""
    rates, seeds = table.shape
    if rates < 2 or seeds < 2:
        return 0.0
    residuals = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    freedom = (rates - 1) * (seeds - 1)
    variance = float((residuals**2).sum()) / freedom
    return float(stdtrit(freedom, (1 + _LEVEL) / 2)) * math.sqrt(2 * variance / seeds)


def _good_range(good: NDArray[np.bool_], place: int) -> tuple[int, int]:
    """First and last index of the unbroken run of good rates around `place`."""
    first = last = place
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(good) and good[last + 1]:
        last += 1
    return first, last


def _middle(lrs: Sequence[float], means: NDArray[np.float64], margin: float) -> float:
    """The middle of the good rates on a logarithmic scale, weighted by how good they are: far from where rates stop
    being good."""
    weights = np.exp(-2 * ((means - means.min()) / margin) ** 2)
    middle = float(np.exp((weights * np.log(lrs)).sum() / weights.sum()))
    return min(max(middle, lrs[0]), lrs[-1])  # rounding may leave the range


def _not_fallen(start: float, constant: float, noise: float) -> str:
    if start <= constant:
        return (
            f"no rate ends below the loss before the first step, {start:.4g}, by more than noise (±{percent(noise, 0)})"
        )
    return (
        f"no rate ends below the loss of always giving the best constant prediction, {constant:.4g}, by more than noise"
    )


def _nothing(trials: Sequence[RateTrial], why: str) -> Verdict:
    return Verdict(_rates(trials, frozenset()), None, None, None, why)


def _rates(trials: Sequence[RateTrial], good: frozenset[float]) -> tuple[RateResult, ...]:
    rates = []
    for lr in sorted({t.lr for t in trials}):
        own = [t for t in trials if t.lr == lr]
        losses = [t.held_out for t in own if t.held_out is not None]
        if len(losses) < len(own):
            rates.append(RateResult(lr, None, None, None, len(own), False))
        else:
            rates.append(RateResult(lr, sum(losses) / len(losses), min(losses), max(losses), len(own), lr in good))
    return tuple(rates)
