"""The rates that the script's schedules will set, and how often they are stepped, until its loops are over."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch.optim import Optimizer

from striate.doctor.checks.optim.schedule.rate_functions import rates_by_function, rates_of_steps
from striate.doctor.checks.optim.schedule.scheduler_calls import held_schedules, own_schedules, rates_of
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.rates import passes_planned, steps_an_epoch
from striate.doctor.setup.script_source import Often, ScriptSource, Site
from striate.doctor.setup.syntax import receiver_of

WARMUP_EPOCHS = 5
"""Epochs that a warmup may have."""
_NEARLY, _HALF = 0.9, 0.5
"""Share of the full rate, and share of the steps within which it has to be reached."""
_FEWEST_CALLS = 5
"""Fewest calls of a schedule whose rates show whether it is stepped with the optimizer."""


def schedules_of(evidence: Evidence) -> Iterator[Any]:
    """The script's schedules for the optimizer that is examined, torch's and its own; none if no script was run."""
    source, optimizer = evidence.setup.source, evidence.setup.optimizer
    if source is not None:
        of_library = source.library.schedules if source.library is not None else ()
        every = (*held_schedules(source), *own_schedules(source), *(known.scheduler for known in of_library))
        unique = {id(scheduler): scheduler for scheduler in every}.values()
        yield from (one for one in unique if _is_or_holds(optimizer, getattr(one, "optimizer", None)))


def often_stepped(source: ScriptSource, scheduler: object) -> set[Often]:
    """How often the script's calls, or its library, step a scheduler: its own calls, or else those of an object that
    holds it, such as a trainer."""
    known = source.library.schedules if source.library is not None else ()
    if any(scheduled.scheduler is scheduler for scheduled in known):
        return {scheduled.often for scheduled in known if scheduled.scheduler is scheduler}
    return {site.often for site in calls_of(source, scheduler)}


def calls_of(source: ScriptSource, scheduler: object) -> list[Site]:
    """The script's calls that step a scheduler: its own, or those of an object that holds it, as a trainer."""
    called_on = [(site, source.value(receiver_of(site.node))) for site in source.calls("step")]
    itself = [site for site, thing in called_on if thing is scheduler]
    return itself or [site for site, thing in called_on if _is_or_holds(thing, scheduler)]


def _is_or_holds(thing: object, target: object) -> bool:
    """Whether an object is another one, or wraps it, as Accelerate does."""
    return thing is target or any(part is target for part in getattr(thing, "__dict__", {}).values())


def planned_rates(evidence: Evidence) -> Iterator[tuple[list[float], int, str]]:
    """The rates that the script plans until its loops are over, as far as known, how many there will be, and whether
    each is for a "step" or an "epoch".

    They are those of each schedule that the script steps once a batch or once an epoch, and of each function that sets
    the rate.
    """
    source, optimizer = evidence.setup.source, evidence.setup.optimizer
    if source is None or not isinstance(optimizer, Optimizer):
        return
    for scheduler in schedules_of(evidence) if source.epochs else ():
        often = often_stepped(source, scheduler) or _as_tried(evidence)
        if len(often) != 1 or not source.epochs:
            continue
        batches = often == {"batch"}
        # Some trainers make no step of the last batches of an epoch if they are too few to accumulate.
        passes = max(1, steps_an_epoch(evidence) // batches_a_call(evidence, scheduler)) if batches else 1
        planned = round(source.epochs * passes)
        rates = [float(scheduler.optimizer.param_groups[0]["lr"]), *rates_of(scheduler, planned - 1)]
        yield rates, planned, "step" if batches else "epoch"
    for rates in rates_by_function(source, optimizer):
        yield rates, len(rates), "epoch"
    for rates in rates_of_steps(source, round(passes_in_all(evidence))):
        yield rates, len(rates), "step"


def batches_a_call(evidence: Evidence, scheduler: Any) -> float:
    """The number of batches per call of a schedule: several if it is stepped with an optimizer that accumulates
    gradients, which the library says or the trial's rates show; else 1."""
    if (accumulated := _accumulated_by_library(evidence)) > 1:
        return float(accumulated)
    stepped = [(number, row.rates[0]) for number, row in enumerate(evidence.trial.rows) if row.rates]
    if len(stepped) < _FEWEST_CALLS:
        return 1.0
    (first, begin), (last, end) = stepped[0], stepped[-1]
    planned = rates_of(scheduler, len(stepped) - 1)
    expected = [float(scheduler.optimizer.param_groups[0]["lr"]), *planned]
    alike = [math.isclose(rate, other, rel_tol=1e-6) for (_, rate), other in zip(stepped, expected, strict=False)]
    return (last - first) / (len(stepped) - 1) if all(alike) and len(alike) == len(stepped) and begin != end else 1.0


def batches_a_step(evidence: Evidence, steps: int) -> float:
    """The number of batches for each step of the optimizer, of which the trial made `steps`."""
    return _accumulated_by_library(evidence) * len(evidence.trial.rows) / steps


def _accumulated_by_library(evidence: Evidence) -> int:
    """The number of batches that a library's trainer accumulates for a step, although the examined step takes one."""
    source = evidence.setup.source
    return source.library.accumulated if source is not None and source.library is not None else 1


def _as_tried(evidence: Evidence) -> set[Often]:
    """How often a schedule is stepped, where the code does not show it: once a batch, if the first steps of the trial
    change the rate."""
    rates = [row.rates for row in evidence.trial.rows if row.rates][:2]
    return {"batch"} if len(set(rates)) > 1 else set()


def passes_in_all(evidence: Evidence) -> float:
    """The number of batches that all of the script's loops process; 0 where it is unknown."""
    epochs = evidence.setup.source.epochs if evidence.setup.source is not None else None
    return passes_planned(evidence) or (epochs or 0) * steps_an_epoch(evidence)


def highest_planned(evidence: Evidence) -> float | None:
    """The highest rate that the script's schedules set within the planned steps; None where there are no schedules."""
    epochs = (evidence.setup.source.epochs if evidence.setup.source is not None else None) or 1
    steps = epochs * steps_an_epoch(evidence)
    return max((rate for scheduler in schedules_of(evidence) for rate in rates_of(scheduler, steps)), default=None)


def reaches_full_rate(schedules: Sequence[tuple[list[float], int, str]], full: float) -> bool:
    """Whether a schedule that is stepped once a batch reaches its full rate in the first half of the training."""
    return any(
        rates[-1] < max(rates) and max(rates) >= _NEARLY * full
        for rates, steps, unit in schedules
        if unit == "step" and rates.index(max(rates)) <= _HALF * steps
    )


def warms_up_by_epochs(evidence: Evidence) -> bool:
    """Whether a schedule doubles the current rate or more within `WARMUP_EPOCHS` calls."""
    source, optimizer = evidence.setup.source, evidence.setup.optimizer
    if source is None or not isinstance(optimizer, Optimizer):
        return False
    now = float(optimizer.param_groups[0]["lr"])
    return any(
        scheduler.optimizer is optimizer and max(rates_of(scheduler, WARMUP_EPOCHS), default=0.0) >= 2 * now
        for scheduler in schedules_of(evidence)
    )


def stops_rising_within(evidence: Evidence, planned: int) -> bool:
    """Whether one of the script's schedules stops raising the rate within `planned` steps. Then the full rate is not
    what the optimizer has, as with `LambdaLR` and an optimizer at 1."""
    planned_rates = (list(rates_of(scheduler, planned)) for scheduler in schedules_of(evidence))
    return any(len(rates) > 1 and rates[-1] <= rates[-2] for rates in planned_rates)
