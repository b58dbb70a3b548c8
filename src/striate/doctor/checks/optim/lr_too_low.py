"""`optim.lr-too-low`: does a higher learning rate get much farther?"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.labels.too_few import are_drawn_often, weights_of_few
from striate.doctor.checks.optim.lr_too_high import NEARLY
from striate.doctor.checks.optim.schedule.planned_rates import highest_planned, warms_up_by_epochs
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.longer_trials import share_after_more_steps
from striate.doctor.evidence.progress import Progress, chance_of_call, number
from striate.doctor.evidence.rates import (
    at_held_rates,
    at_rate,
    highest_rates,
    movement,
    optimizer_line,
    passes_planned,
    rate_remedy,
    rate_text,
    rates_are_users,
    steps_an_epoch,
    warms_up,
)
from striate.doctor.evidence.trial import CLOSE_STEPS, Change, Trial
from striate.doctor.setup.replicas import Replica
from striate.records import Finding, Remedy
from striate.wording import percent, several

SMALL_MOVE = 2e-3
"""Movement of the parameters in a step, as a share of their norm. Healthy steps have about a thousandth; longer ones
are not too small."""
LITTLE, NOTHING = 0.15, 0.02
"""Progress, from 0 at chance to 1 at a loss of zero."""
GAIN = 0.25
TINY_MOVE, TINY_GAIN = 1e-4, 0.04
"""Movement of steps a tenth as long as healthy ones, and the gain that suffices with a higher rate if they learn
nothing."""
HELD_MOVE = 5e-4
"""Movement at the final rate of a warmup, which is tried from the first step on, where healthy rates may be too
high."""
TINY_TOTAL_MOVE = 5e-3
"""Largest movement of all steps that the script plans together, as a share of the parameters' norm; healthy trainings
move that far in a handful of steps."""
TINY_SHARE = 1e-6
"""Share of the loss that goes backward; usual are the loss itself, sums of losses, and a loss divided by a number of
batches."""
NO_LOSS = 1e-3
"""Absolute value that goes backward. A loss of large numbers that is divided by their variance is above it."""
EPOCHS, STEPS = 20, 1500
"""Epochs and steps that a healthy low rate may take to get as far as a higher one in the trial; with large data sets,
which have many steps per epoch, a hundred steps show little."""

_LARGE = 1000
"""How many times its default an `eps` may be without being tried."""
TOO_SHORT = 2
"""A rate is too low if it needs more than this many times the planned steps."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    """Where steps are small and almost nothing is learned, tries higher rates."""
    if not rates_are_users(evidence):
        return
    if weights_of_few(evidence.setup.train) and are_drawn_often(evidence.setup.train, evidence.samples.x):
        raise NoEvidence("the sampler has weights for only a few samples, which it draws repeatedly")
    trial, moved = evidence.trial, movement(evidence.trial)
    part, back = evidence.calls.largest_loss_weight, max(map(abs, evidence.calls.backward), default=0.0)
    if 0 < part < TINY_SHARE and back < NO_LOSS and moved is not None and moved < 5 * SMALL_MOVE:
        yield _multiplied(part, moved)
        return
    own = _from_chance(evidence, evidence.progress, moved)
    if own.share > LITTLE or not math.isfinite(own.level) or moved is None or moved > SMALL_MOVE:
        return
    if highest_rates(trial) and max(highest_rates(trial)) == 0:
        yield from _zero(evidence)
        return
    rising = warms_up(trial) or warms_up_by_epochs(evidence)
    peak = _peak(trial) if rising else highest_rates(trial)
    first = max((rate for row in trial.rows[:CLOSE_STEPS] for rate in row.rates), default=0.0)
    highest = moved * (max(peak, default=0.0) / first if rising and first else 1.0)
    if (planned := passes_planned(evidence)) and 0 < highest * planned < TINY_TOTAL_MOVE and own.share < NOTHING:
        yield _hardly_moves(trial, peak, own, highest, planned)
        return
    held = rising and max(highest_rates(trial), default=0.0) < NEARLY * max(peak, default=math.inf)
    rates = tuple(peak) if held else highest_rates(trial)
    if held:
        moved = _move_at(trial, peak)
        unknown = not planned or (highest_planned(evidence) or 0.0) > max(peak)
        if moved is None or moved > HELD_MOVE or unknown:
            return  # the final rate is unknown
        trial = at_held_rates(evidence, peak)
        own = _from_chance(evidence, evidence.progress_of(trial), moved)
        if own.share > LITTLE or not math.isfinite(own.level):
            return
    if (shortened := _shortened_by_eps(evidence, own, moved)) is not None:
        yield shortened
        return
    for factor in _factors(trial, moved):
        higher = at_held_rates(evidence, [rate * factor for rate in rates]) if held else at_rate(evidence, factor)
        other = _from_chance(evidence, evidence.progress_of(higher), moved)
        tiny = moved < TINY_MOVE and own.share < NOTHING
        gain = TINY_GAIN if tiny else GAIN
        better = (tiny or other.beats(own, 1.5)) and other.share > own.share + gain
        if not better or (own.level - other.level) < gain * (own.chance - own.floor):
            continue
        needed = _steps_to_half(higher.losses, min(own.start, own.chance), other.level) * factor
        patience = max(STEPS, EPOCHS * steps_an_epoch(evidence))
        if needed < (min(patience, TOO_SHORT * planned) if planned else patience) or (held and needed < planned):
            continue
        if rising and share_after_more_steps(evidence) > other.share / 2:
            return
        tried = f"lr {rate_text([r * factor for r in rates])}" if rates else f"steps {factor:g} times as long"
        original = f"lr {rate_text(rates)}" if rates else "the original steps"
        yield Finding(
            code="optim.lr-too-low",
            severity="error" if own.share < NOTHING else "warning",
            where="the optimizer",
            measured=f"with {tried} instead of {original} the loss after {several(other.steps, 'step')} is {other} "
            f"instead of {own}. Unchanged, training takes about {_round(needed)} steps "
            f"({_round(needed / steps_an_epoch(evidence))} epochs) for half of that progress. A step moves the "
            f"parameters by {moved:.1g} of their norm",
            threshold=f"less than {percent(NOTHING if tiny else LITTLE, 0)} of the way from chance "
            f"({number(own.chance)}) to 0, and a higher rate that "
            f"{f'gets {percent(TINY_GAIN, 0)} farther' if tiny else 'is 1.5 times better'} and saves more than "
            f"{EPOCHS} epochs and {STEPS:,} steps",
            why="Steps this small learn almost nothing in a reasonable time.",
            remedy=rate_remedy(
                f"`{optimizer_line(trial.replica.optimizer, [rate * factor for rate in rates])}`.", rates[0] * factor
            )
            if rates
            else Remedy(f"Make your {tried}."),
        )
        curves = {f"as given: {original}": tuple(trial.losses), f"as tried: {tried}": tuple(higher.losses)}
        evidence.pictures["optim.lr-too-low"] = Picture("lines", "Loss by step", curves)
        return


def _shortened_by_eps(evidence: Evidence, own: Progress, moved: float) -> Finding | None:
    """An `eps` that is larger than the gradients, by which Adam or RMSprop then divides, where the default is much
    better."""
    optimizer, rates = evidence.trial.replica.optimizer, highest_rates(evidence.trial)
    option = inspect.signature(type(optimizer)).parameters.get("eps")
    default = None if option is None else option.default
    given = max(float(group.get("eps") or 0.0) for group in optimizer.param_groups)
    if not isinstance(default, float) or given <= _LARGE * default:
        return None

    def prepare(replica: Replica) -> None:
        for group in replica.optimizer.param_groups:
            group["eps"] = default

    usual = evidence.variant(f"eps {default:g}", Change(prepare=prepare))
    other = _from_chance(evidence, evidence.progress_of(usual), moved)
    if not other.beats(own, 1.5) or other.share < own.share + GAIN:
        return None
    return Finding(
        code="optim.lr-too-low",
        severity="error" if own.share < NOTHING else "warning",
        where="eps of the optimizer",
        measured=f"with eps {default:g} instead of {given:g} the loss after {several(other.steps, 'step')} is {other} "
        f"instead of {own}. A step moves the parameters by {moved:.1g} of their norm",
        threshold=f"less than {percent(LITTLE, 0)} of the way from chance ({number(own.chance)}) to 0, an eps of "
        f"{_LARGE:,} times its default or more, and a loss that is 1.5 times better with the default",
        why="The optimizer divides by the size of the gradients plus eps. If eps is larger than they are, steps shrink "
        "with the gradients.",
        remedy=f"`{optimizer_line(optimizer, rates, eps=default)}`.",
    )


def _peak(trial: Trial) -> Sequence[float]:
    """The final rate of a warmup for each parameter group, as schedulers store it; infinite where it is unknown."""
    groups = trial.replica.optimizer.param_groups
    return [float(group.get("max_lr") or group.get("initial_lr") or math.inf) for group in groups]


def _from_chance(evidence: Evidence, own: Progress, moved: float | None) -> Progress:
    """The progress of a trial, counted from the loss of a constant prediction if the steps are tiny and chance is
    unknown.

    The first loss of a network that computes its own loss may be far above that of a constant prediction, so that
    reaching the latter is no progress. Where the loss of a constant prediction is unknown, the mean of the first
    quarter of the losses is used, which tiny steps hardly change, rather than the loss of a single batch."""
    losses = evidence.calls.losses
    if moved is None or moved >= TINY_MOVE or own.chance != own.start:
        return own
    chance = chance_of_call(losses[0], own.start, evidence.train.y) if len(losses) == 1 else None
    if chance is None:
        quarter = evidence.trial.losses[: max(1, len(evidence.trial.losses) // 4)]
        return replace(own, chance=sum(quarter) / len(quarter))
    return replace(own, chance=min(chance, own.chance))


def _move_at(trial: Trial, peak: Sequence[float]) -> float | None:
    """The movement of the parameters in a step at the highest rate, as a share of their norm: the median over steps at
    lower rates, scaled by the ratio of the rates; None where the highest rate is unknown."""
    if not all(map(math.isfinite, peak)):
        return None
    known = [
        row.moved / row.weights * max(peak) / max(row.rates)
        for row in trial.rows
        if row.moved and row.weights and row.rates and max(row.rates) > 0
    ]
    moved = sorted(value for value in known if math.isfinite(value))
    return moved[len(moved) // 2] if moved else None


def _multiplied(part: float, moved: float) -> Finding:
    return Finding(
        code="optim.lr-too-low",
        severity="error",
        where="the loss",
        measured=f"`backward()` runs on {part:.1g} times the loss; a step moves the parameters by {moved:.1g} of "
        "their norm",
        threshold=f"{TINY_SHARE:g} of the loss and {NO_LOSS:g} in absolute value, and steps below "
        f"{5 * SMALL_MOVE:g} of the norm",
        why="The factor shrinks the gradients, and with them the steps of SGD. Those of Adam shrink once gradients "
        "are as small as its epsilon.",
        remedy="remove the factor: call `loss.backward()` on the loss itself",
    )


def _hardly_moves(trial: Trial, rates: Sequence[float], own: Progress, moved: float, planned: float) -> Finding:
    factor = _factors(trial, moved)[0]
    start = f"with lr {rate_text(rates)} a" if rates else "a"
    return Finding(
        code="optim.lr-too-low",
        severity="error",
        where="the optimizer",
        measured=f"{start} step moves the parameters by {moved:.1g} of their norm. All of "
        f"{several(round(planned), 'step')} of the script move them by {moved * planned:.1g} at most; "
        f"the loss is still {own}",
        threshold=f"{TINY_TOTAL_MOVE:g} of the norm in all steps",
        why="Weights that stay close to their initialization learn nothing.",
        remedy=rate_remedy(
            f"`{optimizer_line(trial.replica.optimizer, [rate * factor for rate in rates])}`, or a tenth of it.",
            rates[0] * factor,
        )
        if rates
        else Remedy(f"Make your steps {factor:g} times as long."),
    )


def _zero(evidence: Evidence) -> Iterator[Finding]:
    """A rate of zero, of which no multiple can be tried."""
    own, rates = evidence.progress, highest_rates(evidence.trial)
    tried = {rate: evidence.progress_of(at_held_rates(evidence, [rate] * len(rates))) for rate in (1e-1, 1e-2, 1e-3)}
    rate = next((rate for rate, other in tried.items() if other.beats(own, 1.5)), None)
    if rate is None and (warms_up(evidence.trial) or warms_up_by_epochs(evidence)):
        return  # the final rate is unknown
    rate = rate or min(tried, key=lambda one: (not math.isfinite(tried[one].level), tried[one].level))
    other = tried[rate]
    yield Finding(
        code="optim.lr-too-low",
        severity="error",
        where="the optimizer",
        measured=f"the rate is 0; with lr {rate:g} the loss after {several(other.steps, 'step')} is {other} "
        f"instead of {own}",
        threshold="a rate above 0",
        why="With a rate of 0 no weight moves.",
        remedy=rate_remedy(f"`{optimizer_line(evidence.trial.replica.optimizer, [rate] * len(rates))}`.", rate),
    )


def _factors(trial: Trial, moved: float) -> list[float]:
    """Powers of ten from 10 on to multiply the rate by. The first makes steps of about a hundredth of the parameters'
    norm."""
    if not moved:  # below the precision of the weights
        moved = max(highest_rates(trial), default=0.0) * _strength(trial)
    if not moved:
        return []
    best = round(math.log10(1e-2 / moved))
    return [10.0**power for power in (best, best - 1, best + 1) if power >= 1]


def _strength(trial: Trial) -> float:
    """How far a rate of 1 moves the parameters, as a share of their norm: with SGD by the gradient, with optimizers
    that scale it by 1 in each weight."""
    row = next((row for row in trial.rows if row.applied and row.weights), None)
    if row is None or not row.applied or not row.weights:
        return 0.0
    if isinstance(trial.replica.optimizer, torch.optim.SGD):
        return row.applied / row.weights
    count = sum(p.numel() for group in trial.replica.optimizer.param_groups for p in group["params"])
    return float(count**0.5 / row.weights)


def _steps_to_half(losses: list[float], start: float, level: float) -> int:
    """The number of steps until the loss, a mean over five steps, is halfway from `start` to `level`."""
    half = (start + level) / 2
    for i in range(len(losses)):
        recent = losses[max(0, i - 4) : i + 1]
        if sum(recent) / len(recent) < half:
            return i + 1
    return len(losses)


def _round(value: float) -> str:
    digits = max(0, int(math.log10(max(value, 1))))
    return f"{int(round(value, -digits + 1)) if value >= 10 else round(value):,}"


LR_TOO_LOW = Check(
    codes=("optim.lr-too-low",),
    run=_run,
    quick=False,
    explains="fit.*",
)
