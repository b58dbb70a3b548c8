"""Schedules that are longer than the training: it ends while they still warm up, or before they have come down."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch.optim import Optimizer

from striate.doctor.checks.optim.schedule.gone_early import FALL_STEPS, GONE
from striate.doctor.checks.optim.schedule.planned_rates import (
    batches_a_call,
    often_stepped,
    passes_in_all,
    schedules_of,
    turns_within,
)
from striate.doctor.checks.optim.schedule.scheduler_calls import rates_of
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.rates import rate_text
from striate.records import Finding, Remedy
from striate.wording import several

_HALF = 0.5
"""Of the full rate, that has to be reached by the end."""
_STRAIGHT = 0.2
"""Of the first half's gain, by which that of the second may differ: it grows in line."""
_SEVERAL = 1.5
"""Batches there are for each call where gradients are accumulated."""
_NEARLY_OVER, _HIGH = 0.85, 0.25
"""Shares of all batches, and of the highest rate: a cosine is at GONE when 91 % of it are over."""


def still_rising(
    evidence: Evidence, shares: Sequence[float], rates: Sequence[tuple[float, ...]], full: Sequence[float]
) -> Finding | None:
    """A rate that grows in line, too slowly to be there when the script's loops are over."""
    planned = passes_in_all(evidence) * len(rates) / max(len(evidence.trial.rows), 1)
    half = len(shares) // 2
    first, second = shares[half] - shares[0], shares[2 * half - 1] - shares[half - 1]
    in_line = first > 0 and abs(second - first) <= _STRAIGHT * first
    reached = shares[0] + planned * (shares[-1] - shares[0]) / len(shares)
    if (
        not planned
        or len(shares) < FALL_STEPS
        or not in_line
        or reached > _HALF
        or turns_within(evidence, round(planned))
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


def never_there(evidence: Evidence, given: float) -> Finding | None:
    """A rate that a schedule, stepped once an epoch, has raised to a part of itself only when the training ends."""
    source, optimizer = evidence.setup.source, evidence.setup.optimizer
    if source is None or (source.epochs or 0) < 2 or not isinstance(optimizer, Optimizer):
        return None
    now = max(float(group["lr"]) for group in optimizer.param_groups)
    for scheduler in schedules_of(evidence):
        often = often_stepped(source, scheduler)
        rates = list(rates_of(scheduler, source.epochs or 0)) if often == {"epoch"} else []
        if len(rates) < (source.epochs or 0):
            continue
        if max(now, *rates) > _HALF * given or rates[-1] <= now or rates[-1] < max(rates):
            continue
        return Finding(
            code="optim.lr-schedule",
            severity="warning",
            where="the learning rate's schedule",
            measured=f"the schedule is stepped once an epoch: in all {several(len(rates), 'epoch')} it takes the "
            f"rate from {now:.2g} to {rates[-1]:.2g}, though it is meant to reach {given:g}",
            threshold=f"{_HALF:g} of the full rate, at the end of all epochs",
            why="Training ends before the warmup does: its length is meant in batches but counted in epochs.",
            remedy=Remedy(
                "give the warmup its length in epochs, or step the schedule after each `optimizer.step()`",
                settings={"schedule.name": "one-cycle"},
            ),
        )
    return None


def laid_over_batches(evidence: Evidence) -> Finding | None:
    """A schedule that has come down to next to nothing after as many calls as there are batches in all, but is stepped
    once in several of them, or once an epoch: it ends where the rate is still high."""
    batches, source = round(passes_in_all(evidence)), evidence.setup.source
    for scheduler in schedules_of(evidence) if batches else ():
        by_epoch = source is not None and often_stepped(source, scheduler) == {"epoch"}
        epochs = source.epochs if source is not None and by_epoch else None
        each = batches / epochs if epochs else batches_a_call(evidence, scheduler)
        rates = [float(scheduler.optimizer.param_groups[0]["lr"]), *rates_of(scheduler, batches)]
        if each < _SEVERAL or len(rates) <= batches or max(rates) <= 0:
            continue
        calls, peak = round(batches / each), rates.index(max(rates))
        over = next((number for number, rate in enumerate(rates) if number > peak and rate <= GONE * max(rates)), 0)
        falls = all(after <= before for before, after in pairwise(rates[peak:over]))
        if falls and over >= _NEARLY_OVER * batches and rates[calls - 1] >= _HIGH * max(rates):
            when = "once an epoch" if by_epoch else f"only once in {each:.3g} of them, with the optimizer"
            fewer = (
                "give the schedule the number of the optimizer's steps: `epochs * len(loader) // accumulation_steps`"
            )
            return Finding(
                code="optim.lr-schedule",
                severity="warning",
                where="the learning rate's schedule",
                measured=f"the schedule falls to {GONE:g} of its highest rate within {over:,} calls, and there are "
                f"{several(batches, 'batch', 'batches')}, but it is stepped {when}: after all "
                f"{several(calls, 'call')} the rate is still {rates[calls - 1] / max(rates):.0%} of its highest",
                threshold=f"{GONE:g} of the highest rate after {_NEARLY_OVER:.0%} to 100% of as many calls as there "
                f"are batches, and {_HIGH:.0%} of it or more after as many calls as are made",
                why="The schedule counts batches, but is stepped once in several: a warmup takes several times as "
                "long, and training ends before the rate has fallen.",
                remedy=Remedy(
                    "step the schedule after each `optimizer.step()`, or give it its length in epochs"
                    if by_epoch
                    else fewer,
                    settings={"schedule.name": "one-cycle"},
                ),
            )
    return None
