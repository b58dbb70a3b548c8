"""Is the learning rate too high?"""

from __future__ import annotations

import math
from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.progress import Progress, number
from striate.doctor.evidence.rates import (
    at_rate,
    first_movement,
    highest_rates,
    movement,
    rate_remedy,
    rate_text,
    rates_are_users,
)
from striate.doctor.evidence.trial import Trial
from striate.records import Finding, Remedy

LARGE_MOVE = 3e-3
"""Sound steps move the parameters by about a thousandth of their norm, quick ones by a hundredth: a network that does
not learn with smaller ones has another trouble."""
LITTLE = 0.1
SOME = 0.5
"""Shares of the way from chance to a loss of zero. Below LITTLE nothing was learned; up to SOME a smaller rate has to
be four times better, not one and a half times."""
GAIN = 0.2


def run(evidence: Evidence) -> Iterator[Finding]:
    """Where the trial diverged, stays at chance or far from it, and large steps are made: try smaller ones."""
    if not rates_are_users(evidence):
        return
    trial, own = evidence.trial, evidence.progress
    first, usual = first_movement(trial), movement(trial)
    if own.share > SOME or first is None or max(first, usual or 0) < LARGE_MOVE:
        return
    for factor in _factors(first):
        lower = at_rate(evidence, factor)
        other = evidence.progress_of(lower)
        needed = 1.5 if own.share < LITTLE else 4.0
        if other.beats(own, needed) and other.share > max(own.share, 0.0) + GAIN:
            severity = "error" if own.share < LITTLE else "warning"
            yield _finding(trial, own, other, factor, severity)
            series = {
                f"as given: {_rate(trial, 1)}": _finite(trial),
                f"as tried: {_rate(trial, factor)}": _finite(lower),
            }
            evidence.pictures["optim.lr-too-high"] = Picture("lines", "Loss by step", series)
            return


def _factors(first: float) -> list[float]:
    """Powers of ten, those first that would make a step of about a hundredth of the norm."""
    known = math.isfinite(first) and first > 0
    wanted = min(-1, round(math.log10(1e-2 / first))) if known else -3
    nearest = [wanted, wanted - 1, wanted + 1]
    return [10.0**power for power in nearest if -6 <= power <= -1][:3]


def _finding(trial: Trial, own: Progress, other: Progress, factor: float, severity: str) -> Finding:
    rate = _rate(trial, factor)
    end = "nan" if not math.isfinite(own.level) else number(own.level)
    measured = (
        f"with {rate} instead of {_rate(trial, 1)} the loss after {other.steps} steps is {other} instead of {end}; "
        f"a constant answer has {number(own.chance)}"
    )
    return Finding(
        code="optim.lr-too-high",
        severity=severity,  # type: ignore[arg-type]
        where="the optimizer",
        measured=measured,
        threshold=f"less than {LITTLE:.0%} of the way from chance to 0, and a smaller rate that is 1.5 times better",
        why="Steps this long jump over what they should run down into: the loss grows, or stays where it was.",
        remedy=_remedy(trial, factor),
    )


def _remedy(trial: Trial, factor: float) -> Remedy:
    rates = highest_rates(trial)
    if not rates:
        return Remedy(f"Multiply what your step takes from the parameters by {factor:g}.")
    lower = [rate * factor for rate in rates]
    text = f"Give the optimizer lr={rate_text(lower)}; halve it while the loss still grows."
    return rate_remedy(text, lower[0])


def _rate(trial: Trial, factor: float) -> str:
    rates = highest_rates(trial)
    if not rates:
        return "steps as they are" if factor == 1 else f"steps of {factor:g} of their length"
    return f"lr {rate_text([rate * factor for rate in rates])}"


def _finite(trial: Trial) -> tuple[float, ...]:
    return tuple(loss for loss in trial.losses if math.isfinite(loss))


CHECK = Check(
    codes=("optim.lr-too-high",),
    question="Does the loss grow, or stay at chance, and go down with smaller steps?",
    threshold=f"Less than {LITTLE:.0%} of the way from chance to a loss of 0 (of noise a trial's last quarter has "
    "some percent), "
    "and a tenth, hundredth or thousandth of the rate is 1.5 times better after the same steps.",
    run=run,
    quick=False,
    explains="loss.not-finite model.collapsed model.dead-units model.saturated fit.*",
)
