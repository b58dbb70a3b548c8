"""What rates the script's schedules will set, and how often they are stepped, until its loops are over."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch.optim import Optimizer

from striate.doctor.checks.optim.schedule.rate_functions import rates_by_function, rates_of_steps
from striate.doctor.checks.optim.schedule.scheduler_calls import held_schedules, own_schedules, rates_of
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.rates import passes_planned, steps_an_epoch
from striate.doctor.setup.script_source import Often, ScriptSource
from striate.doctor.setup.syntax import receiver_of

WARMUP_EPOCHS = 5
"""Epochs that a warmup may have."""
_NEARLY, _HALF = 0.9, 0.5
"""Shares of the full rate, and of the steps in which it has to be reached."""
_FEWEST_CALLS = 5
"""Calls of a schedule that tell by their rates whether each comes with a step of the optimizer."""


def schedules_of(evidence: Evidence) -> Iterator[Any]:
    """The script's schedules, torch's and its own, of the optimizer that is examined; none where no script was run."""
    source, optimizer = evidence.setup.source, evidence.setup.optimizer
    if source is not None:
        of_library = source.library.schedules if source.library is not None else ()
        every = (*held_schedules(source), *own_schedules(source), *(known.scheduler for known in of_library))
        unique = {id(found): found for found in every}.values()
        yield from (found for found in unique if _is_or_holds(optimizer, getattr(found, "optimizer", None)))


def often_stepped(source: ScriptSource, scheduler: object) -> set[Often]:
    """How often the script's calls, or its library, step a scheduler; what holds it may be a trainer with steps of its
    own."""
    known = source.library.schedules if source.library is not None else ()
    if any(scheduled.scheduler is scheduler for scheduled in known):
        return {scheduled.often for scheduled in known if scheduled.scheduler is scheduler}
    called_on = [(site.often, source.value(receiver_of(site.node))) for site in source.calls("step")]
    itself = {often for often, thing in called_on if thing is scheduler}
    return itself or {often for often, thing in called_on if _is_or_holds(thing, scheduler)}


def _is_or_holds(thing: object, wanted: object) -> bool:
    """Whether it is what is wanted, or wraps it, as Accelerate does."""
    return thing is wanted or any(part is wanted for part in getattr(thing, "__dict__", {}).values())


def planned_rates(evidence: Evidence) -> Iterator[tuple[list[float], int, str]]:
    """Of each schedule that the script's calls step once a batch or once an epoch, and of functions that set the rate
    for each epoch, the rates from the first on until the script's loops are over, as far as they can be told, how many
    there are, and whether one is of a step or an epoch."""
    source, optimizer = evidence.setup.source, evidence.setup.optimizer
    if source is None or not isinstance(optimizer, Optimizer):
        return
    for scheduler in schedules_of(evidence) if source.epochs else ():
        often = often_stepped(source, scheduler) or _as_tried(evidence)
        if len(often) != 1 or not source.epochs:
            continue
        batches = often == {"batch"}
        passes = steps_an_epoch(evidence) / batches_a_call(evidence, scheduler) if batches else 1
        planned = round(source.epochs * passes)
        rates = [float(scheduler.optimizer.param_groups[0]["lr"]), *rates_of(scheduler, planned - 1)]
        yield rates, planned, "step" if batches else "epoch"
    for rates in rates_by_function(source, optimizer):
        yield rates, len(rates), "epoch"
    for rates in rates_of_steps(source, round(passes_in_all(evidence))):
        yield rates, len(rates), "step"


def batches_a_call(evidence: Evidence, scheduler: Any) -> float:
    """How many batches there are for each call of a schedule: several where it is stepped with an optimizer that steps
    once in several, which the trial tells by its rates; else 1."""
    stepped = [(number, row.rates[0]) for number, row in enumerate(evidence.trial.rows) if row.rates]
    if len(stepped) < _FEWEST_CALLS:
        return 1.0
    (first, begin), (last, end) = stepped[0], stepped[-1]
    planned = rates_of(scheduler, len(stepped) - 1)
    expected = [float(scheduler.optimizer.param_groups[0]["lr"]), *planned]
    alike = [math.isclose(rate, other, rel_tol=1e-6) for (_, rate), other in zip(stepped, expected, strict=False)]
    return (last - first) / (len(stepped) - 1) if all(alike) and len(alike) == len(stepped) and begin != end else 1.0


def _as_tried(evidence: Evidence) -> set[Often]:
    """How often it is stepped, where the code does not tell: each batch, if the first steps moved the rate."""
    rates = [row.rates for row in evidence.trial.rows if row.rates][:2]
    return {"batch"} if len(set(rates)) > 1 else set()


def passes_in_all(evidence: Evidence) -> float:
    """How often the script's loops go through a batch in all; 0 where that is not known."""
    epochs = evidence.setup.source.epochs if evidence.setup.source is not None else None
    return passes_planned(evidence) or (epochs or 0) * steps_an_epoch(evidence)


def highest_planned(evidence: Evidence) -> float | None:
    """The highest rate to which schedules of the script's take the optimizer in as many steps as it plans; None where
    it has none that hold it."""
    epochs = (evidence.setup.source.epochs if evidence.setup.source is not None else None) or 1
    steps = epochs * steps_an_epoch(evidence)
    return max((rate for found in schedules_of(evidence) for rate in rates_of(found, steps)), default=None)


def gets_there(schedules: Sequence[tuple[list[float], int, str]], full: float) -> bool:
    """Whether a schedule of the whole training, stepped once a batch, has its full rate before half of it is over."""
    return any(
        rates[-1] < max(rates) and max(rates) >= _NEARLY * full
        for rates, steps, unit in schedules
        if unit == "step" and rates.index(max(rates)) <= _HALF * steps
    )


def warms_up_by_epochs(evidence: Evidence) -> bool:
    """Whether a schedule that no step of the trial moved takes the rate to twice of what it is within the epochs that a
    warmup may have."""
    source, optimizer = evidence.setup.source, evidence.setup.optimizer
    if source is None or not isinstance(optimizer, Optimizer):
        return False
    now = float(optimizer.param_groups[0]["lr"])
    return any(
        found.optimizer is optimizer and max(rates_of(found, WARMUP_EPOCHS), default=0.0) >= 2 * now
        for found in schedules_of(evidence)
    )


def turns_within(evidence: Evidence, planned: int) -> bool:
    """Whether a schedule of the script's stops to raise the rate before so many steps are made: what it is a share of
    may be no rate, as of `LambdaLR` with an optimizer at 1."""
    planned_rates = (list(rates_of(found, planned)) for found in schedules_of(evidence))
    return any(len(rates) > 1 and rates[-1] <= rates[-2] for rates in planned_rates)
