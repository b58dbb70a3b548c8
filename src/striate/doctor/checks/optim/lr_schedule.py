"""Does the schedule of the learning rate end, or begin, before anything is learned?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence, Sized
from itertools import pairwise, takewhile
from typing import Any

from torch.optim import Optimizer

from striate.doctor.checks.check import Check
from striate.doctor.checks.optim.rate_functions import rates_by_function, rates_of_steps
from striate.doctor.checks.optim.scheduler_calls import held_schedules, own_schedules, rates_of
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.later import both_later
from striate.doctor.evidence.progress import Progress
from striate.doctor.evidence.rates import (
    COMPOUNDED,
    COMPOUNDED_REMEDY,
    COMPOUNDED_WHY,
    at_held_rates,
    compounds,
    held_at,
    passes_planned,
    rate_text,
    rates_are_users,
    rates_given,
    steps_an_epoch,
    told_compounded,
)
from striate.doctor.setup.script_source import Often, ScriptSource, receiver_of
from striate.records import Finding, Remedy
from striate.wording import several

ENDING = 0.1
"""Schedules end at a tenth of their rate or less: a trial is a few epochs, too early for that."""
GROWING = 10.0
LITTLE, SOME = 0.15, 0.6
"""Shares of the way from chance to a loss of 0: up to LITTLE, a rate that is held has to be 1.5 times better, up to
SOME 2 times."""
GAIN = 0.2
LATER, LATER_GAIN = 1.3, 0.15
"""Times better, and how much farther, after four times the steps, where the rate is gone and much is to be learned."""
WARMUP_STEPS, WARMUP_EPOCHS = 1000, 5
"""A warmup of some hundred steps, or of an epoch or two, is healthy."""
FALL_STEPS, FALL_EPOCHS = 20, 3
"""Who lowers the rate later has seen some epochs with the full one, and may mean it."""

_NEARLY = 0.9
"""Of the full rate."""
NEVER = 0.5
STRAIGHT, HALF = 0.2, 0.5
"""Of the first half's gain, by which that of the second may differ: it grows in line; and the share of the full rate
that it has to reach."""
FALLS, DIVIDED = 3, 2.0
"""Falls by one factor, and by what they divide the rate at least, that are meant to have epochs between them."""
GONE, EARLY = 0.02, 0.25
"""Of the highest rate, before so much of the training is over: what comes after hardly counts."""
MOST_OF_EPOCH, MOST_EPOCHS, FLAT = 0.85, 2, 8
"""Of a training of one epoch a cosine comes down to GONE after nine tenths of it; epochs in whose middle no schedule
ends at 0; and steps without any change, which a rate that comes back has not."""
FLOOR, FLOOR_EARLY, SMOOTH = 0.2, 0.15, 0.1
"""A floor, of the highest rate, that is reached before so much of the training is over, by a fall whose last change is
less than that share of the highest rate: a curve that was meant for all of it, not a step down."""

_FEWEST_CALLS, _SEVERAL = 5, 1.5
"""Calls of a schedule that tell by their rates whether each comes with a step of the optimizer, and how many batches
there are for each where gradients are accumulated."""
_NEARLY_OVER, _HIGH = 0.85, 0.25
"""Shares of all batches, and of the highest rate: a cosine is at GONE when 91 % of it are over."""


def run(evidence: Evidence) -> Iterator[Finding]:
    """Where the rate is nearly gone, not there yet, or grew beyond bounds."""
    if not rates_are_users(evidence):
        return
    rates = [row.rates for row in evidence.trial.rows if row.rates]
    full = _full(evidence, rates) if rates else []
    if len(rates) < 10 or max(full) <= 0:
        return
    shares = [_share(rate, full) for rate in rates]
    found = list(_of_trial(evidence, rates, full, shares))
    late = None if found else _gone_within_an_epoch(evidence, shares) or _divided_within_epochs(evidence, shares)
    yield from found if late is None else [late]


def _of_trial(
    evidence: Evidence, rates: Sequence[tuple[float, ...]], full: Sequence[float], shares: Sequence[float]
) -> Iterator[Finding]:
    """By what loops plan, or by a trial in which the rate is held."""
    trial = evidence.trial
    planned = list(_planned_rates(evidence))
    ended = (
        _below_zero(planned)
        or _compounded([*(known for known, _, _ in planned), [max(rate) for rate in rates]])
        or _ends_early(evidence, shares, planned)
        or _still_rising(evidence, shares, rates, full)
    )
    ended = ended or _laid_over_batches(evidence)
    ended = ended or (_never_there(evidence, max(full)) if len(set(rates)) == 1 else None)
    if ended is not None:
        yield ended
        return
    own = evidence.progress
    if own.share > SOME:
        return
    last = sum(shares[-max(1, len(shares) // 4) :]) / max(1, len(shares) // 4)
    grows = last > ENDING and shares[-1] == max(shares) > GROWING * shares[0] > 0 and not own.share > 0
    gone, rises = _gone_between_epochs(evidence, shares), shares[-1] > shares[len(shares) // 2]
    early = last <= ENDING or grows
    if not early and not gone:
        return
    if rises and not grows and (_length_of_rise(shares) < _healthy_rise(evidence) or _gets_there(planned, max(full))):
        return
    if not rises and not grows and _fall(shares) > max(FALL_STEPS, FALL_EPOCHS * steps_an_epoch(evidence)):
        return
    if len(set(rates)) == 1 and warms_up_by_epochs(evidence):
        return
    held = rates[0] if grows else full
    other_trial = at_held_rates(evidence, held)
    other, times = evidence.progress_of(other_trial), 1.5 if own.share < LITTLE else 2.0
    story, limit = _story(rates, full, rises=rises, grows=grows)
    if early and other.beats(own, times) and other.share >= max(own.share, 0.0) + GAIN:
        yield _finding(held, own, other, story, f"{limit}, and a constant rate is {times:g}")
        curves = {
            "as given": tuple(loss for loss in trial.losses if math.isfinite(loss)),
            f"lr {rate_text(held)} throughout": tuple(loss for loss in other_trial.losses if math.isfinite(loss)),
        }
        evidence.pictures["optim.lr-schedule"] = Picture("lines", "Loss by step", curves)
    elif gone:
        own, other = both_later(evidence, held_at(held))
        if other.beats(own, LATER) and other.share >= own.share + LATER_GAIN:
            yield _finding(
                held, own, other, story, f"{limit}, there is much to learn, and a constant rate is {LATER:g}"
            )


def _gone_between_epochs(evidence: Evidence, shares: Sequence[float]) -> bool:
    """Whether the rate has come down to next to nothing and stays there, from the middle of an epoch on, where no loops
    tell how many there will be: who plans few epochs ends with one."""
    begun = len(shares) - _at_the_end(shares, lambda share: share == shares[-1])
    epoch = steps_an_epoch(evidence) * len(shares) / max(len(evidence.trial.rows), 1)
    stays = 1 < len(shares) - begun < len(shares)
    return shares[-1] <= GONE and stays and not _planned(evidence) and not _is_whole(begun, epoch)


def _is_whole(begun: int, epoch: float) -> bool:
    """Whether a step is the first one behind an epoch, or nearly."""
    return abs(begun - round(begun / epoch) * epoch) <= 1


def _gets_there(schedules: Sequence[tuple[list[float], int, str]], full: float) -> bool:
    """Whether a schedule of the whole training, stepped once a batch, has its full rate before half of it is over."""
    return any(
        rates[-1] < max(rates) and max(rates) >= _NEARLY * full
        for rates, steps, unit in schedules
        if unit == "step" and rates.index(max(rates)) <= HALF * steps
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
        for found in _schedules(evidence)
    )


def _planned_rates(evidence: Evidence) -> Iterator[tuple[list[float], int, str]]:
    """Of each schedule that the script's calls step once a batch or once an epoch, and of functions that set the rate
    for each epoch, the rates from the first on until the script's loops are over, as far as they can be told, how many
    there are, and whether one is of a step or an epoch."""
    source, optimizer = evidence.setup.source, evidence.setup.optimizer
    if source is None or not isinstance(optimizer, Optimizer):
        return
    for scheduler in _schedules(evidence) if source.epochs else ():
        often = _stepped(source, scheduler) or _as_tried(evidence)
        if len(often) != 1 or not source.epochs:
            continue
        batches = often == {"batch"}
        passes = steps_an_epoch(evidence) / _batches_a_call(evidence, scheduler) if batches else 1
        planned = round(source.epochs * passes)
        rates = [float(scheduler.optimizer.param_groups[0]["lr"]), *rates_of(scheduler, planned - 1)]
        yield rates, planned, "step" if batches else "epoch"
    for rates in rates_by_function(source, optimizer):
        yield rates, len(rates), "epoch"
    for rates in rates_of_steps(source, round(_planned(evidence))):
        yield rates, len(rates), "step"


def _batches_a_call(evidence: Evidence, scheduler: Any) -> float:
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


def _laid_over_batches(evidence: Evidence) -> Finding | None:
    """A schedule that has come down to next to nothing after as many calls as there are batches in all, but is stepped
    once in several of them: it ends where the rate is still high."""
    batches = round(_planned(evidence))
    for scheduler in _schedules(evidence) if batches else ():
        each = _batches_a_call(evidence, scheduler)
        rates = [float(scheduler.optimizer.param_groups[0]["lr"]), *rates_of(scheduler, batches)]
        if each < _SEVERAL or len(rates) <= batches or max(rates) <= 0:
            continue
        calls, peak = round(batches / each), rates.index(max(rates))
        over = next((number for number, rate in enumerate(rates) if number > peak and rate <= GONE * max(rates)), 0)
        falls = all(after <= before for before, after in pairwise(rates[peak:over]))
        if falls and over >= _NEARLY_OVER * batches and rates[calls - 1] >= _HIGH * max(rates):
            return Finding(
                code="optim.lr-schedule",
                severity="warning",
                where="the learning rate's schedule",
                measured=f"the schedule falls to {GONE:g} of its highest rate within {over:,} calls, and there are "
                f"{several(batches, 'batch', 'batches')}, but it is stepped only once in {each:.3g} of them, with the "
                f"optimizer: after all {several(calls, 'call')} the rate is still "
                f"{rates[calls - 1] / max(rates):.0%} of its highest",
                threshold=f"{GONE:g} of the highest rate after {_NEARLY_OVER:.0%} to 100% of as many calls as there "
                f"are batches, and {_HIGH:.0%} of it or more after as many calls as are made",
                why="The schedule counts batches, but is stepped once in several: a warmup takes several times as "
                "long, and training ends before the rate has fallen.",
                remedy=Remedy(
                    "give the schedule the number of the optimizer's steps: `epochs * len(loader) // "
                    "accumulation_steps`",
                    settings={"schedule.name": "one-cycle"},
                ),
            )
    return None


def _below_zero(schedules: Sequence[tuple[list[float], int, str]]) -> Finding | None:
    """A rate that a schedule takes below zero before the script's loops are over."""
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
    """A rate that is multiplied again and again by factors that are counted from the first rate."""
    for rates in schedules:
        if (different := compounds(rates)) is not None:
            return Finding(
                code="optim.lr-schedule",
                severity="warning",
                where="the learning rate's schedule",
                measured=told_compounded(different),
                threshold=COMPOUNDED,
                why=COMPOUNDED_WHY,
                remedy=COMPOUNDED_REMEDY,
            )
    return None


def _never_there(evidence: Evidence, given: float) -> Finding | None:
    """A rate that a schedule, stepped once an epoch, has raised to a part of itself only when the training ends."""
    source, optimizer = evidence.setup.source, evidence.setup.optimizer
    if source is None or (source.epochs or 0) < 2 or not isinstance(optimizer, Optimizer):
        return None
    now = max(float(group["lr"]) for group in optimizer.param_groups)
    for scheduler in _schedules(evidence):
        often = _stepped(source, scheduler)
        rates = list(rates_of(scheduler, source.epochs or 0)) if often == {"epoch"} else []
        if len(rates) < (source.epochs or 0):
            continue
        if max(now, *rates) > NEVER * given or rates[-1] <= now or rates[-1] < max(rates):
            continue
        return Finding(
            code="optim.lr-schedule",
            severity="warning",
            where="the learning rate's schedule",
            measured=f"the schedule is stepped once an epoch: in all {several(len(rates), 'epoch')} it takes the "
            f"rate from {now:.2g} to {rates[-1]:.2g}, though it is meant to reach {given:g}",
            threshold=f"{NEVER:g} of the full rate, at the end of all epochs",
            why="Training ends before the warmup does: its length is meant in batches but counted in epochs.",
            remedy=Remedy(
                "give the warmup its length in epochs, or step the schedule after each `optimizer.step()`",
                settings={"schedule.name": "one-cycle"},
            ),
        )
    return None


def _schedules(evidence: Evidence) -> Iterator[Any]:
    """The script's schedules, torch's and its own, of the optimizer that is examined; none where no script was run."""
    source, optimizer = evidence.setup.source, evidence.setup.optimizer
    if source is not None:
        of_library = source.library.schedules if source.library is not None else ()
        every = (*held_schedules(source), *own_schedules(source), *(known.scheduler for known in of_library))
        unique = {id(found): found for found in every}.values()
        yield from (found for found in unique if _is_or_holds(optimizer, getattr(found, "optimizer", None)))


def _stepped(source: ScriptSource, scheduler: object) -> set[Often]:
    """How often the script's calls, or its library, step a scheduler; what holds it may be a trainer with steps of its
    own."""
    known = source.library.schedules if source.library is not None else ()
    if any(scheduled.scheduler is scheduler for scheduled in known):
        return {scheduled.often for scheduled in known if scheduled.scheduler is scheduler}
    called_on = [(site.often, source.value(receiver_of(site.node))) for site in source.calls("step")]
    itself = {often for often, thing in called_on if thing is scheduler}
    return itself or {often for often, thing in called_on if _is_or_holds(thing, scheduler)}


def _as_tried(evidence: Evidence) -> set[Often]:
    """How often it is stepped, where the code does not tell: each batch, if the first steps moved the rate."""
    rates = [row.rates for row in evidence.trial.rows if row.rates][:2]
    return {"batch"} if len(set(rates)) > 1 else set()


def _is_or_holds(thing: object, wanted: object) -> bool:
    """Whether it is what is wanted, or wraps it, as Accelerate does."""
    return thing is wanted or any(part is wanted for part in getattr(thing, "__dict__", {}).values())


def _ends_early(
    evidence: Evidence, shares: Sequence[float], schedules: Sequence[tuple[list[float], int, str]]
) -> Finding | None:
    """A rate that is gone for good in the first part of the training that the script's loops make: as the trial's
    steps had it, or as schedules will."""
    made = len(evidence.trial.rows) / len(shares)  # passes of the loop for each step of the optimizer
    every = [(shares, _planned(evidence) / made, "step")]
    for rates, steps, unit in schedules:
        if (highest := max(rates)) > 0 and len(rates) == steps:
            every.append(([rate / highest for rate in rates], steps, unit))
    for known, planned, unit in every:
        gone = len(known) - _at_the_end(known, lambda share: share <= GONE)
        enough = len(known) - gone >= (FALL_STEPS if unit == "step" else FALL_EPOCHS)
        if enough and 0 < gone <= EARLY * planned and len(known) <= planned:
            limit = f"{GONE:g} of the highest rate before {EARLY:.0%} of the training is over"
            return _gone(f"{unit} {gone + 1} of {round(planned):,}", max(known[gone:]), limit)
        flat = _on_the_floor(known)
        if unit == "step" and flat is not None and flat <= FLOOR_EARLY * planned and len(known) <= planned:
            limit = (
                f"{FLOOR:g} of the highest rate or less for the rest, after a smooth fall or right after the "
                "peak, before "
            )
            limit += f"{FLOOR_EARLY:.0%} of the training is over"
            return _gone(f"{unit} {flat + 1} of {round(planned):,}", known[-1], limit)
    return None


def _gone_within_an_epoch(evidence: Evidence, shares: Sequence[float]) -> Finding | None:
    """A rate that is gone for good in the first half of an epoch, or comes down smoothly before most of it is over,
    where no loops tell how many there will be: steps down are made at three quarters of one."""
    train = evidence.setup.train
    if _planned(evidence) or not isinstance(train, Sized):
        return None
    made, gone = len(evidence.trial.rows) / len(shares), len(shares) - _at_the_end(shares, lambda share: share <= GONE)
    smooth = gone > 0 and shares[gone - 1] < SMOOTH
    most = MOST_OF_EPOCH if smooth else HALF
    stays = len(shares) - gone >= FALL_STEPS or _at_the_end(shares, lambda share: share == shares[-1]) >= FLAT
    if not (0 < gone < len(shares) and stays):
        return None
    if gone * made > most * len(train):
        return _at_zero_between_epochs(shares, len(train) / made)
    limit = (
        f"{GONE:g} of the highest rate before {HALF:.0%} of an epoch is over, or {MOST_OF_EPOCH:.0%} in a smooth fall"
    )
    return _gone(f"step {gone + 1} of {len(train):,} in an epoch", max(shares[gone:]), limit)


def _at_zero_between_epochs(shares: Sequence[float], epoch: float) -> Finding | None:
    """A rate that is 0 from the middle of an early epoch on: who plans so few ends with one."""
    zeros = _at_the_end(shares, lambda share: share == 0)
    begun = len(shares) - zeros
    if zeros < FLAT or _is_whole(begun, epoch) or begun > MOST_EPOCHS * epoch:
        return None
    return _gone(
        f"step {begun + 1} (in the middle of an epoch of {round(epoch)} steps)",
        0.0,
        f"a rate of 0 for at least {FLAT} steps, from the middle of one of the first {MOST_EPOCHS} epochs on",
    )


def _divided_within_epochs(evidence: Evidence, shares: Sequence[float]) -> Finding | None:
    """A rate that is divided by the same number every so many steps, which together are less than an epoch."""
    made = len(evidence.trial.rows) / len(shares)
    falls = [step for step, (before, now) in enumerate(pairwise(shares), 1) if now != before]
    lengths = {after - before for before, after in pairwise(falls)}
    ratios = [shares[step - 1] / max(shares[step], 1e-300) for step in falls]
    if len(falls) < FALLS or len(lengths) > 1 or min(ratios) < DIVIDED or max(ratios) > 1.01 * min(ratios):
        return None
    every, epoch = made * lengths.pop(), steps_an_epoch(evidence)
    if every >= epoch or shares[-1] > ENDING or evidence.progress.share > SOME:
        return None
    return _gone(
        f"step {falls[-1] + 1} (the rate is divided by {ratios[0]:.3g} every {several(round(every), 'step')}, an epoch "
        f"has {epoch:,.0f})",
        shares[-1],
        f"the rate falls {FALLS} times by the same factor of {DIVIDED:g} or more, less than an epoch apart, to "
        f"{ENDING:g} of its highest or less, before much is learned",
    )


def _at_the_end(shares: Sequence[float], holds: Callable[[float], bool]) -> int:
    """Of how many of the last shares it holds."""
    return sum(1 for _ in takewhile(holds, reversed(shares)))


def _on_the_floor(shares: Sequence[float]) -> int | None:
    """The step from which on the rate no more changes, where it came down to that smoothly, or from the peak of a rise;
    None where it did neither."""
    flat = len(shares) - _at_the_end(shares, lambda share: share == shares[-1])
    falls = shares[max(0, flat - FALL_STEPS // 2) : flat + 1]
    smooth = len(falls) > FALL_STEPS // 4 and all(0 < a - b < SMOOTH for a, b in pairwise(falls))
    off_peak = flat > FALL_STEPS // 4 and shares[flat - 2] < shares[flat - 1] == max(shares)
    return flat if (smooth or off_peak) and len(shares) - flat >= FALL_STEPS and shares[-1] <= FLOOR else None


def _gone(place: str, left: float, limit: str) -> Finding:
    return Finding(
        code="optim.lr-schedule",
        severity="warning",
        where="the learning rate's schedule",
        measured=f"from {place} on the rate is {left:.2g} of its highest",
        threshold=limit,
        why="The rest of the training changes almost nothing. Often the schedule's lengths are meant in epochs but "
        "counted in batches.",
        remedy=Remedy(
            "give the schedule the number of steps of the whole training: `epochs * len(loader)`, divided by the "
            "number of batches that are accumulated for a step",
            settings={"schedule.name": "one-cycle"},
        ),
    )


def _still_rising(
    evidence: Evidence, shares: Sequence[float], rates: Sequence[tuple[float, ...]], full: Sequence[float]
) -> Finding | None:
    """A rate that grows in line, too slowly to be there when the script's loops are over."""
    planned = _planned(evidence) * len(rates) / max(len(evidence.trial.rows), 1)
    half = len(shares) // 2
    first, second = shares[half] - shares[0], shares[2 * half - 1] - shares[half - 1]
    in_line = first > 0 and abs(second - first) <= STRAIGHT * first
    reached = shares[0] + planned * (shares[-1] - shares[0]) / len(shares)
    if not planned or len(shares) < FALL_STEPS or not in_line or reached > HALF or _turns(evidence, round(planned)):
        return None
    return Finding(
        code="optim.lr-schedule",
        severity="warning",
        where="the learning rate's schedule",
        measured=f"the rate grows linearly from {rate_text(rates[0])} to {rate_text(rates[-1])} in "
        f"{several(len(rates), 'step')}: after all of {several(round(planned), 'step')} it will be {reached:.2g} of "
        f"{rate_text(full)}",
        threshold=f"{HALF:g} of the full rate, at the end of all steps",
        why="Training ends before the warmup does. Often its length is counted in samples, or comes from another "
        "training.",
        remedy=Remedy(
            "give the warmup its length in steps of this training: an epoch or two, `2 * len(loader)`",
            settings={"schedule.name": "one-cycle"},
        ),
    )


def _planned(evidence: Evidence) -> float:
    """How often the script's loops go through a batch in all; 0 where that is not known."""
    epochs = evidence.setup.source.epochs if evidence.setup.source is not None else None
    return passes_planned(evidence) or (epochs or 0) * steps_an_epoch(evidence)


def highest_planned(evidence: Evidence) -> float | None:
    """The highest rate to which schedules of the script's take the optimizer in as many steps as it plans; None where
    it has none that hold it."""
    epochs = (evidence.setup.source.epochs if evidence.setup.source is not None else None) or 1
    steps = epochs * steps_an_epoch(evidence)
    return max((rate for found in _schedules(evidence) for rate in rates_of(found, steps)), default=None)


def _turns(evidence: Evidence, planned: int) -> bool:
    """Whether a schedule of the script's stops to raise the rate before so many steps are made: what it is a share of
    may be no rate, as of `LambdaLR` with an optimizer at 1."""
    planned_rates = (list(rates_of(found, planned)) for found in _schedules(evidence))
    return any(len(rates) > 1 and rates[-1] <= rates[-2] for rates in planned_rates)


def _full(evidence: Evidence, rates: Sequence[tuple[float, ...]]) -> list[float]:
    """The highest rate that each group had in the trial, has as it is given, or began with."""
    highest = [max(values) for values in zip(*rates, strict=False)]
    given = evidence.setup.optimizer
    if isinstance(given, Optimizer):
        # Where the script sets the rate itself, in each step; groups that were given rates of their own never had it.
        own = len({float(group["lr"]) for group in given.param_groups}) > 1
        made = 0.0 if own else given.defaults.get("lr", 0.0)
        began = [max(float(group.get("initial_lr", group["lr"])), float(made)) for group in given.param_groups]
        now = rates_given(evidence)
        highest = [max(values) for values in zip(highest, now, began, strict=False)]
    return highest


def _share(rate: Sequence[float], full: Sequence[float]) -> float:
    return max(r / f for r, f in zip(rate, full, strict=False) if f > 0)


def _length_of_rise(shares: Sequence[float]) -> float:
    """After how many steps the full rate is reached if it goes on growing in line."""
    gained = shares[-1] - shares[0]
    return math.inf if gained <= 0 else len(shares) / gained


def _fall(shares: Sequence[float]) -> int:
    """The step, counted from 1, at which a tenth of the full rate is reached."""
    return next((i for i, share in enumerate(shares) if share <= ENDING * 1.001), len(shares)) + 1


def _healthy_rise(evidence: Evidence) -> float:
    return max(WARMUP_STEPS, WARMUP_EPOCHS * steps_an_epoch(evidence))


def _story(rates: Sequence[tuple[float, ...]], full: Sequence[float], *, rises: bool, grows: bool) -> tuple[str, str]:
    """What the rate does, and from which measure on that is too little or too much."""
    begin, end = rate_text(rates[0]), rate_text(rates[-1])
    if grows:
        return (
            f"the rate grows from {begin} to {end} within {several(len(rates), 'step')}",
            f"a rate that grows {GROWING:g} times",
        )
    if rises:
        return (
            f"after {several(len(rates), 'step')} the rate is {end}, short of the full {rate_text(full)}",
            f"a warmup of more than {WARMUP_STEPS:,} steps and {WARMUP_EPOCHS} epochs",
        )
    low = _fall([_share(rate, full) for rate in rates])
    return (
        f"the rate falls below a tenth of {rate_text(full)} at step {low}, and is {end} after "
        f"{several(len(rates), 'step')}",
        f"a tenth of the full rate within {FALL_EPOCHS} epochs or {FALL_STEPS} steps",
    )


def _finding(held: Sequence[float], own: Progress, other: Progress, story: str, limit: str) -> Finding:
    rate = rate_text(held)
    return Finding(
        code="optim.lr-schedule",
        severity="error" if own.share < LITTLE else "warning",
        where="the learning rate's schedule",
        measured=f"{story}; with {rate} throughout the loss after {several(other.steps, 'step')} is {other} instead "
        f"of {own}",
        threshold=f"{limit} times better",
        why="While the rate is almost 0, steps learn nothing. Often the schedule's lengths are meant in epochs but "
        "counted in batches.",
        remedy=Remedy(
            "Call `scheduler.step()` once an epoch, after the loop over batches; or give its lengths in batches "
            f"(`len(train)` times the epochs). Tried here: no schedule, and lr={rate}.",
            settings={"schedule.name": "one-cycle"},
        ),
    )


LR_SCHEDULE = Check(
    codes=("optim.lr-schedule",),
    question="Is the learning rate almost 0, or still warming up, while there is much to learn?",
    run=run,
    quick=False,
    explains="optim.lr-too-high optim.lr-too-low fit.*",
)
