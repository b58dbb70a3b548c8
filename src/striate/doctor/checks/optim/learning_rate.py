"""`optim.lr-too-high` and `optim.lr-too-low`: whether another learning rate gets much farther."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.optim.lr_schedule import highest_planned, warms_up_by_epochs
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.later import as_written, both_later, few_updates, learned_later, recovered
from striate.doctor.evidence.progress import Progress, chance_of_call, number
from striate.doctor.evidence.rates import (
    at_factor,
    at_held_rates,
    at_rate,
    first_movement,
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
from striate.doctor.evidence.trial import CLOSE_STEPS, Trial
from striate.records import Finding, Remedy
from striate.wording import several

LARGE_MOVE = 3e-3
"""Healthy steps move the parameters by about a thousandth of their norm, quick ones by a hundredth: a network that does
not learn with smaller ones has another trouble."""
LR_TOO_HIGH_LITTLE = 0.1
SOME = 0.5
"""Shares of the way from chance to a loss of zero. Below LITTLE nothing was learned; up to SOME a smaller rate has to
be four times better, not one and a half times."""
LR_TOO_HIGH_GAIN = 0.2
_LOWERED, _MORE = 0.95, 0.05
"""Of the highest rate; and of the way to zero, which a rate that is lowered gets on as it is."""
ADDED_UP = 0.2
_SHORT_OF = 0.9
ADAMS_HIGHEST = 0.1
"""Of a network's weights few are larger."""
FAR_SOME, FAR_TIMES, FAR_GAIN = 0.8, 1.1, 0.1
"""With such a rate one that gets as much farther is enough, though it be short of what was asked of others."""
FAR_LATER, _TENTH = 2.0, 0.1
"""Times that a tenth of such a rate is better after four times the steps, where it is not so much farther before."""
LARGE, LARGE_LATER, LARGE_GAIN = 0.02, 1.3, 0.15
"""For Adam a rate that is large for most networks; how much better a tenth is then, where not half was learned."""
LEAP, MUCH_FARTHER = 10.0, 0.3
"""Times its first value: where the loss grew so much with such a rate, or the rate is even larger, it is too high even
if later steps come nearly as far."""


def _find_lr_too_high(evidence: Evidence) -> Iterator[Finding]:
    """Where the trial diverged, stays at chance or far from it, and large steps are made: try smaller ones."""
    if not rates_are_users(evidence):
        return
    trial, own = evidence.trial, evidence.progress
    if (told := _led_to(evidence, own) or _added_up(evidence)) is not None:
        yield told
        return
    first, usual = first_movement(trial), movement(trial)
    far = _farther_than_weights(trial)
    if own.share > (FAR_SOME if far else SOME) or first is None or max(first, usual or 0) < LARGE_MOVE:
        return
    for factor in _factors_of_lr_too_high(first):
        lower = at_rate(evidence, factor)
        other = evidence.progress_of(lower)
        needed = 1.5 if own.share < LR_TOO_HIGH_LITTLE else FAR_TIMES if far else 4.0
        if other.beats(own, needed) and other.share > max(own.share, 0.0) + (FAR_GAIN if far else LR_TOO_HIGH_GAIN):
            if (
                few_updates(trial)
                and math.isfinite(own.level)
                and recovered(evidence) > max(own.share, LR_TOO_HIGH_LITTLE)
            ):
                return
            if as_written(evidence) > SOME:
                return
            severity = "error" if own.share < LR_TOO_HIGH_LITTLE else "warning"
            farther = max(highest_rates(trial), default=0.0) >= MUCH_FARTHER
            short = 0.0 if farther or max(trial.losses) > LEAP * trial.losses[0] else FAR_GAIN
            enough = own.share + _MORE if _is_lowered(trial) else other.share - short if far else SOME
            if severity == "warning" and learned_later(evidence) > enough:
                break
            yield _finding(trial, own, other, factor, severity)
            series = {
                f"as given: {_rate(trial, 1)}": _finite(trial),
                f"as tried: {_rate(trial, factor)}": _finite(lower),
            }
            evidence.pictures["optim.lr-too-high"] = Picture("lines", "Loss by step", series)
            return
    if (late := _farther_later(evidence, own)) is not None:
        yield late


def _farther_later(evidence: Evidence, own: Progress) -> Finding | None:
    """Of Adam or its kin at a large rate, or one as large as weights, which in the trial learns nearly as fast as with
    a tenth, or learns more later: whether it is far behind after as many steps."""
    trial, far = evidence.trial, _farther_than_weights(evidence.trial)
    most, times, gain = (FAR_SOME, FAR_LATER, LR_TOO_HIGH_GAIN) if far else (SOME, LARGE_LATER, LARGE_GAIN)
    if not _is_as_large(trial, LARGE) or (far and _is_lowered(trial)) or own.share > most:
        return None
    if evidence.progress_of(at_rate(evidence, _TENTH)).level >= own.level:
        return None
    same, other = both_later(evidence, at_factor(evidence, _TENTH))
    if same.share > most or not other.beats(same, times) or other.share < same.share + gain:
        return None
    return _finding(trial, same, other, _TENTH, "error" if same.share < LR_TOO_HIGH_LITTLE else "warning")


def _led_to(evidence: Evidence, own: Progress) -> Finding | None:
    """A rate that a warmup leads to, which the trial ends below, and at which Adam and its kin learn nothing."""
    optimizer = evidence.setup.optimizer
    if not isinstance(optimizer, torch.optim.Optimizer) or "adam" not in type(optimizer).__name__.lower():
        return None
    rate = max(
        float(optimizer.defaults.get("lr", 0.0)), *(float(g.get("initial_lr", 0)) for g in optimizer.param_groups)
    )
    if (led := highest_planned(evidence)) is not None:  # of `LambdaLR` the optimizer's own may be 1
        rate = min(rate, led)
    reached = max(highest_rates(evidence.trial), default=0.0)
    if rate < ADAMS_HIGHEST or not 0 < reached < _SHORT_OF * rate:
        return None
    other = evidence.progress_of(at_held_rates(evidence, [rate] * len(optimizer.param_groups)))
    if other.share > max(LR_TOO_HIGH_LITTLE, own.share / 2):
        return None
    return Finding(
        code="optim.lr-too-high",
        severity="error",
        where="the optimizer",
        measured=f"the rate is on its way to {rate_text([rate])}; with that throughout the loss after "
        f"{several(other.steps, 'step')} is {other}, and a constant prediction has {number(other.chance)}",
        threshold=f"{ADAMS_HIGHEST:g} for {type(optimizer).__name__}, and less than {LR_TOO_HIGH_LITTLE:.0%} of "
        "the way from chance to 0 with it",
        why="Each step of Adam moves each weight by about the rate, whatever the gradient: weights are smaller than "
        "that.",
        remedy=rate_remedy("a rate of 0.001 to 0.003 behind the warmup", 1e-3),
    )


def _farther_than_weights(trial: Trial) -> bool:
    """Whether Adam or its kin moves weights by about as much as they are large, or does so when a warmup is over that
    is nearly there."""
    return _is_as_large(trial, ADAMS_HIGHEST)


def _is_as_large(trial: Trial, rate: float) -> bool:
    """Whether a rate of Adam or its kin is so large, or will be when a warmup is over that is nearly there."""
    optimizer = trial.replica.optimizer
    if not isinstance(optimizer, torch.optim.Optimizer) or "adam" not in type(optimizer).__name__.lower():
        return False
    reached = max(highest_rates(trial), default=0.0)
    led = max(float(group.get("initial_lr", 0.0)) for group in optimizer.param_groups)
    return max(reached, led if _NEARLY * led <= reached else 0.0) >= rate


def _added_up(evidence: Evidence) -> Finding | None:
    """RMSprop with a momentum so near to 1 that its steps, each about the rate, add up to far longer ones."""
    optimizer = evidence.fresh.optimizer
    for group in optimizer.param_groups if isinstance(optimizer, torch.optim.RMSprop) else ():
        rate, momentum = float(group["lr"]), float(group["momentum"])
        if momentum and rate >= ADDED_UP * (1 - momentum):
            return Finding(
                code="optim.lr-too-high",
                severity="warning",
                where="the optimizer",
                measured=f"RMSprop makes steps of about lr {rate:g} whatever the gradient, and momentum {momentum:g} "
                f"adds up {1 / (1 - momentum):,.0f} of them: {rate / (1 - momentum):.2g}",
                threshold=f"{ADDED_UP:g} for the rate divided by 1 − momentum",
                why="Few weights are as large as such a step: what was learned is lost when gradients turn.",
                remedy=Remedy(
                    f"`torch.optim.RMSprop(model.parameters(), lr={rate:g}, momentum=0.9)`, or with this momentum "
                    f"a rate of {0.02 * (1 - momentum):.1g}",
                    settings={"optim.momentum": 0.9},
                ),
            )
    return None


def _is_lowered(trial: Trial) -> bool:
    """Whether the rate is on its way down when the trial ends."""
    rates = [max(row.rates) for row in trial.rows if row.rates]
    return bool(rates) and rates[-1] < _LOWERED * max(rates)


def _factors_of_lr_too_high(first: float) -> list[float]:
    """Powers of ten, those first that would make a step of about a hundredth of the norm."""
    known = math.isfinite(first) and first > 0
    wanted = min(-1, round(math.log10(1e-2 / first))) if known else -3
    nearest = [wanted, wanted - 1, wanted + 1]
    return [10.0**power for power in nearest if -6 <= power <= -1][:3]


def _finding(trial: Trial, own: Progress, other: Progress, factor: float, severity: str) -> Finding:
    rate = _rate(trial, factor)
    end = "nan" if not math.isfinite(own.level) else number(own.level)
    measured = (
        f"with {rate} instead of {_rate(trial, 1)} the loss after {several(other.steps, 'step')} is {other} instead "
        f"of {end}; a constant prediction has {number(own.chance)}"
    )
    return Finding(
        code="optim.lr-too-high",
        severity=severity,  # type: ignore[arg-type]
        where="the optimizer",
        measured=measured,
        threshold=f"less than {LR_TOO_HIGH_LITTLE:.0%} of the way from chance to 0, and a smaller rate that is 1.5 "
        "times better",
        why="Steps this long overshoot the minimum: the loss grows, or does not fall.",
        remedy=_remedy(trial, factor),
    )


def _remedy(trial: Trial, factor: float) -> Remedy:
    rates = highest_rates(trial)
    if not rates:
        return Remedy(f"Multiply what your step takes from the parameters by {factor:g}.")
    lower = [rate * factor for rate in rates]
    text = f"`{optimizer_line(trial.replica.optimizer, lower)}`; halve the rate while the loss still grows."
    return rate_remedy(text, lower[0])


def _rate(trial: Trial, factor: float) -> str:
    rates = highest_rates(trial)
    if not rates:
        return "steps as they are" if factor == 1 else f"steps of {factor:g} of their length"
    return f"lr {rate_text([rate * factor for rate in rates])}"


def _finite(trial: Trial) -> tuple[float, ...]:
    return tuple(loss for loss in trial.losses if math.isfinite(loss))


LR_TOO_HIGH = Check(
    codes=("optim.lr-too-high",),
    question="Does the loss grow, or stay at chance, and go down with smaller steps?",
    run=_find_lr_too_high,
    quick=False,
    explains="loss.not-finite model.collapsed model.dead-units model.saturated fit.*",
)


SMALL_MOVE = 2e-3
"""Healthy steps move the parameters by about a thousandth of their norm; larger ones are not too small."""
LR_TOO_LOW_LITTLE, NOTHING = 0.15, 0.02
"""Shares of the way from chance to a loss of zero."""
LR_TOO_LOW_GAIN = 0.25
TINY_MOVE, TINY_GAIN = 1e-4, 0.04
"""Steps a tenth as long as healthy ones, after which nothing was learned: a beginning with others is enough."""
HELD_MOVE = 5e-4
"""Of a rate that a warmup leads to: it is judged from the start on, which healthy ones are not meant for."""
NOWHERE = 5e-3
"""The longest way of all steps that the script plans, as a share of the norm of the parameters: healthy trainings make
it in a handful of steps."""
NEXT_TO_NONE = 1e-6
"""Of the loss: what goes backward is meant to be it, a sum of several, or a part of one over some batches."""
NO_LOSS = 1e-3
"""What goes backward where it is next to none: that of large numbers, divided by their variance, is as large as any."""
EPOCHS, STEPS = 20, 1500
"""What a healthy small rate may take to get to where a higher one gets in the trial: large data sets have many steps an
epoch, and a hundred steps of theirs say little."""

_NEARLY = 0.7
"""Of the rate that a warmup leads to: from there on it is judged as it is."""
TOO_SHORT = 2
"""Times as long as the script's loops are: then it ends before that."""


def _find_lr_too_low(evidence: Evidence) -> Iterator[Finding]:
    """Where steps are small and next to nothing was learned: try steps of a sensible length."""
    if not rates_are_users(evidence):
        return
    trial, moved = evidence.trial, movement(evidence.trial)
    part, back = evidence.calls.part_of_loss, max(map(abs, evidence.calls.backward), default=0.0)
    if 0 < part < NEXT_TO_NONE and back < NO_LOSS and moved is not None and moved < 5 * SMALL_MOVE:
        yield _multiplied(part, moved)
        return
    own = _from_chance(evidence, evidence.progress, moved)
    if own.share > LR_TOO_LOW_LITTLE or not math.isfinite(own.level) or moved is None or moved > SMALL_MOVE:
        return
    if highest_rates(trial) and max(highest_rates(trial)) == 0:
        yield from _zero(evidence)
        return
    rising = warms_up(trial) or warms_up_by_epochs(evidence)
    peak = _peak(trial) if rising else highest_rates(trial)
    first = max((rate for row in trial.rows[:CLOSE_STEPS] for rate in row.rates), default=0.0)
    highest = moved * (max(peak, default=0.0) / first if rising and first else 1.0)
    if (planned := passes_planned(evidence)) and 0 < highest * planned < NOWHERE and own.share < NOTHING:
        yield _nowhere(trial, peak, own, highest, planned)
        return
    held = rising and max(highest_rates(trial), default=0.0) < _NEARLY * max(peak, default=math.inf)
    rates = tuple(peak) if held else highest_rates(trial)
    if held:
        moved = _move_at(trial, peak)
        unknown = not planned or (highest_planned(evidence) or 0.0) > max(peak)
        if moved is None or moved > HELD_MOVE or unknown:
            return  # where it leads to is not known yet
        trial = at_held_rates(evidence, peak)
        own = _from_chance(evidence, evidence.progress_of(trial), moved)
        if own.share > LR_TOO_LOW_LITTLE or not math.isfinite(own.level):
            return
    for factor in _factors_of_lr_too_low(trial, moved):
        higher = at_held_rates(evidence, [rate * factor for rate in rates]) if held else at_rate(evidence, factor)
        other = _from_chance(evidence, evidence.progress_of(higher), moved)
        tiny = moved < TINY_MOVE and own.share < NOTHING
        gain = TINY_GAIN if tiny else LR_TOO_LOW_GAIN
        better = (tiny or other.beats(own, 1.5)) and other.share > own.share + gain
        if not better or (own.level - other.level) < gain * own.chance:
            continue
        needed = _steps_to_half(higher.losses, min(own.start, own.chance), other.level) * factor
        patience = max(STEPS, EPOCHS * steps_an_epoch(evidence))
        if needed < (min(patience, TOO_SHORT * planned) if planned else patience) or (held and needed < planned):
            continue
        if rising and learned_later(evidence) > other.share / 2:
            return
        tried = f"lr {rate_text([r * factor for r in rates])}" if rates else f"steps {factor:g} times as long"
        given = f"lr {rate_text(rates)}" if rates else "steps as they are"
        yield Finding(
            code="optim.lr-too-low",
            severity="error" if own.share < NOTHING else "warning",
            where="the optimizer",
            measured=f"with {tried} instead of {given} the loss after {several(other.steps, 'step')} is {other} "
            f"instead of {own}; as it "
            f"is, half of that takes about {_round(needed)} steps, {_round(needed / steps_an_epoch(evidence))} epochs. "
            f"A step moves the parameters by {moved:.1g} of their norm",
            threshold=f"less than {NOTHING if tiny else LR_TOO_LOW_LITTLE:.0%} of the way from chance "
            f"({number(own.chance)}) to 0, and a higher rate that "
            f"{f'gets {TINY_GAIN:.0%} farther' if tiny else 'is 1.5 times better'} and saves more than {EPOCHS} epochs "
            f"and {STEPS:,} steps",
            why="Steps this small learn next to nothing in a sensible time.",
            remedy=rate_remedy(
                f"`{optimizer_line(trial.replica.optimizer, [rate * factor for rate in rates])}`.", rates[0] * factor
            )
            if rates
            else Remedy(f"Make your {tried}."),
        )
        curves = {f"as given: {given}": tuple(trial.losses), f"as tried: {tried}": tuple(higher.losses)}
        evidence.pictures["optim.lr-too-low"] = Picture("lines", "Loss by step", curves)
        return


def _peak(trial: Trial) -> Sequence[float]:
    """The rates by group that a warmup leads to, as schedulers note them; infinite ones where none does."""
    groups = trial.replica.optimizer.param_groups
    return [float(group.get("max_lr") or group.get("initial_lr") or math.inf) for group in groups]


def _from_chance(evidence: Evidence, own: Progress, moved: float | None) -> Progress:
    """How far a trial of tiny steps came from what a constant prediction gives, also where the network computes its
    own loss: the first loss of such a one may be far above that. Longer steps that got down to it may soon learn. Where
    that is not known, from the mean of the first quarter, which such steps hardly change: one batch's loss is another's
    by chance."""
    losses = evidence.calls.losses
    if moved is None or moved >= TINY_MOVE or own.chance != own.start:
        return own
    chance = chance_of_call(losses[0], own.start, evidence.train.y) if len(losses) == 1 else None
    if chance is None:
        quarter = evidence.trial.losses[: max(1, len(evidence.trial.losses) // 4)]
        return replace(own, chance=sum(quarter) / len(quarter))
    return replace(own, chance=min(chance, own.chance))


def _move_at(trial: Trial, peak: Sequence[float]) -> float | None:
    """By which part of their norm a step at the highest rate moves the parameters: the median of what steps at lower
    ones do, as much longer; None where the highest is not known."""
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
        measured=f"what goes backward is {part:.1g} times the loss; a step moves the parameters by {moved:.1g} of "
        "their norm",
        threshold=f"{NEXT_TO_NONE:g} of the loss and {NO_LOSS:g} in all, and steps below {5 * SMALL_MOVE:g} of the "
        "norm",
        why="Gradients shrink with the factor: the steps of SGD do, and those of Adam once gradients are as small as "
        "its epsilon.",
        remedy="leave the factor out: `loss.backward()` of the loss as it is",
    )


def _nowhere(trial: Trial, rates: Sequence[float], own: Progress, moved: float, planned: float) -> Finding:
    factor = _factors_of_lr_too_low(trial, moved)[0]
    given = f"with lr {rate_text(rates)} a" if rates else "a"
    return Finding(
        code="optim.lr-too-low",
        severity="error",
        where="the optimizer",
        measured=f"{given} step moves the parameters by {moved:.1g} of their norm: all {round(planned):,} of the "
        f"script by {moved * planned:.1g} at most; the loss is still {own}",
        threshold=f"{NOWHERE:g} of the norm in all steps",
        why="Weights that stay where they began learn nothing.",
        remedy=rate_remedy(
            f"`{optimizer_line(trial.replica.optimizer, [rate * factor for rate in rates])}`, or a tenth of it.",
            rates[0] * factor,
        )
        if rates
        else Remedy(f"Make your steps {factor:g} times as long."),
    )


def _zero(evidence: Evidence) -> Iterator[Finding]:
    """A rate of zero has no multiple."""
    own, rates = evidence.progress, highest_rates(evidence.trial)
    tried = {rate: evidence.progress_of(at_held_rates(evidence, [rate] * len(rates))) for rate in (1e-1, 1e-2, 1e-3)}
    rate = next((rate for rate, other in tried.items() if other.beats(own, 1.5)), None)
    if rate is None and (warms_up(evidence.trial) or warms_up_by_epochs(evidence)):
        return  # where it leads to is not known yet
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


def _factors_of_lr_too_low(trial: Trial, moved: float) -> list[float]:
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
    if isinstance(trial.replica.optimizer, torch.optim.SGD):
        return row.applied / row.weights
    count = sum(p.numel() for group in trial.replica.optimizer.param_groups for p in group["params"])
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


LR_TOO_LOW = Check(
    codes=("optim.lr-too-low",),
    question="Would a higher rate get far in the steps in which this one gets nowhere?",
    run=_find_lr_too_low,
    quick=False,
    explains="fit.*",
)
