"""Schedules that are longer than the training, which ends during the warmup, or before the rate has fallen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch.optim import Optimizer

from striate.doctor.checks.optim.schedule.planned_rates import (
    batches_a_call,
    batches_a_step,
    often_stepped,
    passes_in_all,
    schedules_of,
    stops_rising_within,
)
from striate.doctor.checks.optim.schedule.scheduler_calls import rates_of
from striate.doctor.checks.optim.schedule.too_short import FALL_STEPS, GONE
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.rates import rate_text
from striate.records import Finding, Remedy
from striate.wording import percent, several

_HALF = 0.5
"""Share of the full rate that has to be reached by the end."""
_STRAIGHT = 0.2
"""Largest relative difference between the gains of both halves of a linear rise."""
_SEVERAL = 1.5
"""Fewest batches per call if gradients are accumulated."""
_NEARLY_OVER, _HIGH = 0.85, 0.25
"""Share of all batches after which the schedule ends, since a cosine falls to GONE after 91 %; and share of the highest
rate that is too high at the end of training."""


def still_rising(
    evidence: Evidence, shares: Sequence[float], rates: Sequence[tuple[float, ...]], full: Sequence[float]
) -> Finding | None:
    """The finding for a rate that grows linearly, but too slowly to reach half of the full rate by the end."""
    planned = passes_in_all(evidence) / batches_a_step(evidence, len(rates))
    half = len(shares) // 2
    first, second = shares[half] - shares[0], shares[2 * half - 1] - shares[half - 1]
    in_line = first > 0 and abs(second - first) <= _STRAIGHT * first
    reached = shares[0] + planned * (shares[-1] - shares[0]) / len(shares)
    if (
        not planned
        or len(shares) < FALL_STEPS
        or not in_line
        or reached > _HALF
        or stops_rising_within(evidence, round(planned))
    ):
        return None
    return Finding(
        code="optim.lr-schedule",
        severity="warning",
        where="the learning rate's schedule",
        measured=f"the rate grows linearly from {rate_text(rates[0])} to {rate_text(rates[-1])} in "
        f"{several(len(rates), 'step')}: after all of {several(round(planned), 'step')} it will be {reached:.2g} of "
        f"{rate_text(full)}",
        threshold=f"{_HALF:g} of the full rate, at the end of all steps",
        why="Training ends before the warmup does. Often its length is counted in samples, or comes from another "
        "training.",
        remedy=Remedy(
            "give the warmup its length in steps of this training: an epoch or two, `2 * len(loader)`",
            settings={"schedule.name": "one-cycle"},
        ),
    )


def never_reached(evidence: Evidence, full: float) -> Finding | None:
    """The finding for a warmup that is stepped once an epoch and reaches less than half of the full rate by the end."""
    source, optimizer = evidence.setup.source, evidence.setup.optimizer
    if source is None or (source.epochs or 0) < 2 or not isinstance(optimizer, Optimizer):
        return None
    now = max(float(group["lr"]) for group in optimizer.param_groups)
    for scheduler in schedules_of(evidence):
        often = often_stepped(source, scheduler)
        rates = list(rates_of(scheduler, source.epochs or 0)) if often == {"epoch"} else []
        if len(rates) < (source.epochs or 0):
            continue
        if max(now, *rates) > _HALF * full or rates[-1] <= now or rates[-1] < max(rates):
            continue
        return Finding(
            code="optim.lr-schedule",
            severity="warning",
            where="the learning rate's schedule",
            measured=f"the schedule is stepped once an epoch: in all {several(len(rates), 'epoch')} it takes the "
            f"rate from {now:.2g} to {rates[-1]:.2g}, though it is meant to reach {full:g}",
            threshold=f"{_HALF:g} of the full rate, at the end of all epochs",
            why="Training ends before the warmup does: its length is meant in batches but counted in epochs.",
            remedy=Remedy(
                "give the warmup its length in epochs, or step the schedule after each `optimizer.step()`",
                settings={"schedule.name": "one-cycle"},
            ),
        )
    return None


def counted_in_batches(evidence: Evidence) -> Finding | None:
    """The finding for a schedule that falls to nearly 0 after as many calls as there are batches, but is stepped only
    once in several batches, or once an epoch, so that the rate is still high at the end."""
    batches, source = round(passes_in_all(evidence)), evidence.setup.source
    for scheduler in schedules_of(evidence) if batches else ():
        by_epoch = source is not None and often_stepped(source, scheduler) == {"epoch"}
        epochs = source.epochs if source is not None and by_epoch else None
        each = batches / epochs if epochs else batches_a_call(evidence, scheduler)
        rates = [float(scheduler.optimizer.param_groups[0]["lr"]), *rates_of(scheduler, batches)]
        if each < _SEVERAL or len(rates) <= batches or max(rates) <= 0:
            continue
        calls, peak = round(batches / each), rates.index(max(rates))
        end = next((number for number, rate in enumerate(rates) if number > peak and rate <= GONE * max(rates)), 0)
        falls = all(after <= before for before, after in pairwise(rates[peak:end]))
        if falls and end >= _NEARLY_OVER * batches and rates[calls - 1] >= _HIGH * max(rates):
            when = "once an epoch" if by_epoch else f"only once in {each:.3g} of them, with the optimizer"
            by_step = (
                "give the schedule the number of the optimizer's steps: `epochs * len(loader) // accumulation_steps`"
            )
            return Finding(
                code="optim.lr-schedule",
                severity="warning",
                where="the learning rate's schedule",
                measured=f"the schedule falls to {GONE:g} of its highest rate within {end:,} calls, and there are "
                f"{several(batches, 'batch', 'batches')}, but it is stepped {when}: after all "
                f"{several(calls, 'call')} the rate is still {percent(rates[calls - 1] / max(rates), 0)} of its "
                "highest",
                threshold=f"{GONE:g} of the highest rate after {percent(_NEARLY_OVER, 0)} to 100 % of as many calls as "
                f"there are batches, and {percent(_HIGH, 0)} of it or more after as many calls as are made",
                why="The schedule counts batches, but is stepped once in several: a warmup takes several times as "
                "long, and training ends before the rate has fallen.",
                remedy=Remedy(
                    "step the schedule after each `optimizer.step()`, or give it its length in epochs"
                    if by_epoch
                    else by_step,
                    settings={"schedule.name": "one-cycle"},
                ),
            )
    return None
