"""Is the learning rate too low?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.progress import number
from striate.doctor.evidence.rates import (
    at_held_rates,
    at_rate,
    highest_rates,
    movement,
    rate_remedy,
    rate_text,
    rates_are_users,
    steps_an_epoch,
)
from striate.doctor.evidence.trial import Trial
from striate.records import Finding, Remedy

SMALL_MOVE = 2e-3
"""Sound steps move the parameters by about a thousandth of their norm; larger ones are not too small."""
LITTLE, NOTHING = 0.15, 0.02
"""Shares of the way from chance to a loss of zero."""
GAIN = 0.25
EPOCHS, STEPS = 20, 1500
"""What a healthy small rate may take to get to where a higher one gets in the trial: large data sets have many steps an
epoch, and a hundred steps of theirs say little."""


def run(evidence: Evidence) -> Iterator[Finding]:
    """Where steps are small and next to nothing was learned: try steps of a sensible length."""
    if not rates_are_users(evidence):
        return
    trial, own = evidence.trial, evidence.progress
    moved = movement(trial)
    if own.share > LITTLE or not math.isfinite(own.level) or moved is None or moved > SMALL_MOVE:
        return
    if highest_rates(trial) and max(highest_rates(trial)) == 0:
        yield from _zero(evidence)
        return
    for factor in _factors(trial, moved):
        higher = at_rate(evidence, factor)
        other = evidence.progress_of(higher)
        better = other.beats(own, 1.5) and other.share > own.share + GAIN
        if not better or (own.level - other.level) < GAIN * own.chance:
            continue
        needed = _steps_to_half(higher.losses, min(own.start, own.chance), other.level) * factor
        if needed < max(STEPS, EPOCHS * steps_an_epoch(evidence)):
            continue
        rates = highest_rates(trial)
        tried = f"lr {rate_text([r * factor for r in rates])}" if rates else f"steps {factor:g} times as long"
        given = f"lr {rate_text(rates)}" if rates else "steps as they are"
        yield Finding(
            code="optim.lr-too-low",
            severity="error" if own.share < NOTHING else "warning",
            where="the optimizer",
            measured=f"with {tried} instead of {given} the loss after {other.steps} steps is {other} instead of "
            f"{own}; as it "
            f"is, half of that takes about {_round(needed)} steps, {_round(needed / steps_an_epoch(evidence))} epochs. "
            f"A step moves the parameters by {moved:.1g} of their norm",
            threshold=f"less than {LITTLE:.0%} of the way from chance ({number(own.chance)}) to 0, and a higher rate "
            f"that is 1.5 times better and saves more than {EPOCHS} epochs and {STEPS:,} steps",
            why="Steps this small lead nowhere within a sensible time.",
            remedy=rate_remedy(f"Give the optimizer {tried.replace('lr ', 'lr=')}.", rates[0] * factor)
            if rates
            else Remedy(f"Make your {tried}."),
        )
        curves = {f"as given: {given}": tuple(trial.losses), f"as tried: {tried}": tuple(higher.losses)}
        evidence.pictures["optim.lr-too-low"] = Picture("lines", "Loss by step", curves)
        return


def _zero(evidence: Evidence) -> Iterator[Finding]:
    """A rate of zero has no multiple."""
    own, rates = evidence.progress, highest_rates(evidence.trial)
    for rate in (1e-1, 1e-2, 1e-3):
        other = evidence.progress_of(at_held_rates(evidence, [rate] * len(rates)))
        if other.beats(own, 1.5):
            yield Finding(
                code="optim.lr-too-low",
                severity="error",
                where="the optimizer",
                measured=f"the rate is 0; with lr {rate:g} the loss after {other.steps} steps is {other} instead of "
                f"{own}",
                threshold="a rate above 0",
                why="Steps of length zero lead nowhere.",
                remedy=rate_remedy(f"Give the optimizer lr={rate:g}.", rate),
            )
            return


def _factors(trial: Trial, moved: float) -> list[float]:
    """Powers of ten, that first which would make a step of a hundredth of the norm."""
    if not moved:  # so small that the numbers' precision swallows it
        moved = max(highest_rates(trial), default=0.0) * _strength(trial)
    if not moved:
        return []
    wanted = round(math.log10(1e-2 / moved))
    return [10.0**power for power in (wanted, wanted - 1, wanted + 1) if power >= 1]


def _strength(trial: Trial) -> float:
    """How far a rate of 1 would move the parameters, as a share of their norm: by the gradient, or, of optimizers that
    scale it, by 1 in each number."""
    row = next((row for row in trial.rows if row.applied and row.weights), None)
    if row is None or not row.applied or not row.weights:
        return 0.0
    if isinstance(trial.double.optimizer, torch.optim.SGD):
        return row.applied / row.weights
    count = sum(p.numel() for group in trial.double.optimizer.param_groups for p in group["params"])
    return float(count**0.5 / row.weights)


def _steps_to_half(losses: list[float], start: float, level: float) -> int:
    """How many steps went by until half of the way from start to level was gone, of a mean over five steps."""
    half = (start + level) / 2
    for i in range(len(losses)):
        recent = losses[max(0, i - 4) : i + 1]
        if sum(recent) / len(recent) < half:
            return i + 1
    return len(losses)


def _round(value: float) -> str:
    digits = max(0, int(math.log10(max(value, 1))))
    return f"{int(round(value, -digits + 1)) if value >= 10 else round(value):,}"


CHECK = Check(
    codes=("optim.lr-too-low",),
    question="Would a higher rate get far in the steps in which this one gets nowhere?",
    threshold=f"Less than {LITTLE:.0%} of the way from chance to a loss of 0 after the trial, steps below "
    f"{SMALL_MOVE:g} of the "
    f"parameters' norm, and a rate ten or more times higher that is 1.5 times better; what takes fewer than {STEPS:,} "
    f"steps or {EPOCHS} epochs is patience, no fault.",
    run=run,
    quick=False,
    explains="fit.*",
)
