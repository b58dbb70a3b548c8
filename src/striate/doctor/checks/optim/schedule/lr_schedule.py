"""`optim.lr-schedule`: is the learning rate almost 0, or still warming up, while there is much to learn?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from torch.optim import Optimizer

from striate.doctor.checks.check import Check
from striate.doctor.checks.optim.schedule.planned_rates import (
    WARMUP_EPOCHS,
    batches_a_step,
    planned_rates,
    reaches_full_rate,
    warms_up_by_epochs,
)
from striate.doctor.checks.optim.schedule.too_long import counted_in_batches, never_reached, still_rising
from striate.doctor.checks.optim.schedule.too_short import (
    BY_EPOCH,
    FALL_EPOCHS,
    FALL_STEPS,
    LOW,
    MUCH_TO_LEARN,
    divided_within_epochs,
    ends_early,
    gone_from_mid_epoch,
    gone_within_an_epoch,
)
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.longer_trials import progress_of_both_after_more_steps
from striate.doctor.evidence.progress import Progress
from striate.doctor.evidence.rates import (
    COMPOUNDED,
    COMPOUNDED_REMEDY,
    COMPOUNDED_WHY,
    at_held_rates,
    compounded_rates,
    compounding_text,
    held_at,
    rate_text,
    rates_are_users,
    rates_given,
    steps_an_epoch,
)
from striate.records import Finding, Remedy
from striate.wording import several

_GROWING = 10.0
_LITTLE = 0.15
"""Progress, from 0 at chance to 1 at a loss of 0: up to this, a constant rate has to be 1.5 times better, and from
there up to MUCH_TO_LEARN 2 times."""
_GAIN = 0.2
_LATER, _LATER_GAIN = 1.3, 0.15
"""How many times better a constant rate has to be after four times the steps, and by how much its progress has to be
higher, if the rate is nearly 0 while there is much to learn."""
_WARMUP_STEPS = 1000
"""A warmup of some hundred steps, or of an epoch or two, is healthy."""


def run(evidence: Evidence) -> Iterator[Finding]:
    """Findings for a rate that is nearly 0, not yet at its full value, or grows without bound."""
    if not rates_are_users(evidence):
        return
    rates = [row.rates for row in evidence.trial.rows if row.rates]
    full = _full(evidence, rates) if rates else []
    if len(rates) < 10 or max(full) <= 0:
        return
    shares = [_share(rate, full) for rate in rates]
    findings = list(_of_trial(evidence, rates, full, shares))
    late = None if findings else gone_within_an_epoch(evidence, shares) or divided_within_epochs(evidence, shares)
    yield from findings if late is None else [late]


def _of_trial(
    evidence: Evidence, rates: Sequence[tuple[float, ...]], full: Sequence[float], shares: Sequence[float]
) -> Iterator[Finding]:
    """Findings by the rates that the script plans, or by a trial with a constant rate."""
    trial = evidence.trial
    planned = list(planned_rates(evidence))
    finding = (
        _below_zero(planned)
        or _compounded([*(known for known, _, _ in planned), [max(rate) for rate in rates]])
        or ends_early(evidence, shares, planned)
        or still_rising(evidence, shares, rates, full)
    )
    finding = finding or counted_in_batches(evidence)
    finding = finding or (never_reached(evidence, max(full)) if len(set(rates)) == 1 else None)
    if finding is not None:
        yield finding
        return
    own = evidence.progress
    if own.share > MUCH_TO_LEARN:
        return
    last = sum(shares[-max(1, len(shares) // 4) :]) / max(1, len(shares) // 4)
    grows = last > LOW and shares[-1] == max(shares) > _GROWING * shares[0] > 0 and not own.share > 0
    gone, rises = gone_from_mid_epoch(evidence, shares), shares[-1] > shares[len(shares) // 2]
    early = last <= LOW or grows
    if not early and not gone:
        return
    if (
        rises
        and not grows
        and (_length_of_rise(shares) < _healthy_rise(evidence) or reaches_full_rate(planned, max(full)))
    ):
        return
    epoch = steps_an_epoch(evidence) / batches_a_step(evidence, len(shares))
    if not rises and not grows and _fall(shares) > max(FALL_STEPS, FALL_EPOCHS * epoch):
        return
    if len(set(rates)) == 1 and warms_up_by_epochs(evidence):
        return
    held = rates[0] if grows else full
    other_trial = at_held_rates(evidence, held)
    other, times = evidence.progress_of(other_trial), 1.5 if own.share < _LITTLE else 2.0
    course, limit = _course(rates, full, rises=rises, grows=grows)
    if early and other.beats(own, times) and other.share >= max(own.share, 0.0) + _GAIN:
        yield _finding(held, own, other, course, f"{limit}, and a constant rate is {times:g}")
        curves = {
            "as given": tuple(loss for loss in trial.losses if math.isfinite(loss)),
            f"lr {rate_text(held)} throughout": tuple(loss for loss in other_trial.losses if math.isfinite(loss)),
        }
        evidence.pictures["optim.lr-schedule"] = Picture("lines", "Loss by step", curves)
    elif gone:
        own, other = progress_of_both_after_more_steps(evidence, held_at(held))
        if other.beats(own, _LATER) and other.share >= own.share + _LATER_GAIN:
            yield _finding(
                held, own, other, course, f"{limit}, there is much to learn, and a constant rate is {_LATER:g}"
            )


def _below_zero(schedules: Sequence[tuple[list[float], int, str]]) -> Finding | None:
    """The finding for a schedule with rates below zero before the script's loops are over."""
    for rates, planned, _ in schedules:
        below = next((number for number, rate in enumerate(rates) if rate < 0), None)
        if below is not None:
            return Finding(
                code="optim.lr-schedule",
                severity="error",
                where="the learning rate's schedule",
                measured=f"from step {below + 1} of the schedule on, of {planned:,}, the learning rate is below "
                f"zero: {min(rates):.2g}",
                threshold="0",
                why="A step with a negative rate moves up the gradient and undoes what was learned.",
                remedy="make the schedule as long as the training, and end it with `max(0.0, …)`",
            )
    return None


def _compounded(schedules: Sequence[Sequence[float]]) -> Finding | None:
    """The finding for a rate that is multiplied repeatedly by factors that are meant for the initial rate."""
    for rates in schedules:
        if (different := compounded_rates(rates)) is not None:
            return Finding(
                code="optim.lr-schedule",
                severity="warning",
                where="the learning rate's schedule",
                measured=compounding_text(different),
                threshold=COMPOUNDED,
                why=COMPOUNDED_WHY,
                remedy=COMPOUNDED_REMEDY,
            )
    return None


def _full(evidence: Evidence, rates: Sequence[tuple[float, ...]]) -> list[float]:
    """The highest rate of each parameter group: in the trial, in the user's optimizer now, or initially."""
    highest = [max(values) for values in zip(*rates, strict=False)]
    optimizer = evidence.setup.optimizer
    if isinstance(optimizer, Optimizer):
        # The default matters if the script sets the rate in each step; groups with their own rates never have it.
        own = len({float(group["lr"]) for group in optimizer.param_groups}) > 1
        default = 0.0 if own else optimizer.defaults.get("lr", 0.0)
        initial = [max(float(group.get("initial_lr", group["lr"])), float(default)) for group in optimizer.param_groups]
        now = rates_given(evidence)
        highest = [max(values) for values in zip(highest, now, initial, strict=False)]
    return highest


def _share(rate: Sequence[float], full: Sequence[float]) -> float:
    return max(r / f for r, f in zip(rate, full, strict=False) if f > 0)


def _length_of_rise(shares: Sequence[float]) -> float:
    """The number of steps after which the full rate is reached if the rate keeps growing linearly."""
    gained = shares[-1] - shares[0]
    return math.inf if gained <= 0 else len(shares) / gained


def _fall(shares: Sequence[float]) -> int:
    """The number of the step, from 1, at which the rate falls to a tenth of the full one."""
    return next((i for i, share in enumerate(shares) if share <= LOW * 1.001), len(shares)) + 1


def _healthy_rise(evidence: Evidence) -> float:
    return max(_WARMUP_STEPS, WARMUP_EPOCHS * steps_an_epoch(evidence))


def _course(rates: Sequence[tuple[float, ...]], full: Sequence[float], *, rises: bool, grows: bool) -> tuple[str, str]:
    """The course of the rate in words, and the limit from which on it is reported."""
    begin, end = rate_text(rates[0]), rate_text(rates[-1])
    if grows:
        return (
            f"the rate grows from {begin} to {end} within {several(len(rates), 'step')}",
            f"a rate that grows {_GROWING:g} times",
        )
    if rises:
        return (
            f"after {several(len(rates), 'step')} the rate is {end}, short of the full {rate_text(full)}",
            f"a warmup of more than {_WARMUP_STEPS:,} steps and {WARMUP_EPOCHS} epochs",
        )
    low = _fall([_share(rate, full) for rate in rates])
    return (
        f"the rate falls below a tenth of {rate_text(full)} at step {low}, and is {end} after "
        f"{several(len(rates), 'step')}",
        f"a tenth of the full rate within {FALL_EPOCHS} epochs or {FALL_STEPS} steps",
    )


def _finding(held: Sequence[float], own: Progress, other: Progress, course: str, limit: str) -> Finding:
    rate = rate_text(held)
    return Finding(
        code="optim.lr-schedule",
        severity="error" if own.share < _LITTLE else "warning",
        where="the learning rate's schedule",
        measured=f"{course}; with {rate} throughout the loss after {several(other.steps, 'step')} is {other} instead "
        f"of {own}",
        threshold=f"{limit} times better",
        why="While the rate is almost 0, steps learn nothing. Often the schedule's lengths are meant in epochs but "
        "counted in batches.",
        remedy=Remedy(
            f"{BY_EPOCH}. Tried here: no schedule, and lr={rate}",
            settings={"schedule.name": "one-cycle"},
        ),
    )


LR_SCHEDULE = Check(
    codes=("optim.lr-schedule",),
    run=run,
    quick=False,
    explains="optim.lr-too-high optim.lr-too-low fit.*",
)
