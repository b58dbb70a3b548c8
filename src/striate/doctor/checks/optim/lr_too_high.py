"""`optim.lr-too-high`: does a lower learning rate get much farther?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.optim.schedule.planned_rates import highest_planned
from striate.doctor.diagnosis import Picture
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.longer_trials import (
    few_updates,
    progress_of_both_after_more_steps,
    share_after_more_steps,
    share_after_more_updates,
    share_with_own_batches,
)
from striate.doctor.evidence.progress import Progress, number
from striate.doctor.evidence.rates import (
    at_factor,
    at_held_rates,
    at_rate,
    first_movement,
    highest_rates,
    movement,
    optimizer_line,
    rate_remedy,
    rate_text,
    rates_are_users,
)
from striate.doctor.evidence.trial import Trial
from striate.records import Finding, Remedy
from striate.wording import percent, several

LARGE_MOVE = 3e-3
"""Movement of the parameters in a step, as a share of their norm. Healthy steps have about a thousandth, quick ones a
hundredth; a network that does not learn with smaller steps has another problem."""
LITTLE = 0.1
SOME = 0.5
"""Progress, from 0 at chance to 1 at a loss of zero. Below LITTLE nothing is learned, and a lower rate has to be 1.5
times better; from there up to SOME, 4 times."""
GAIN = 0.2
_LOWERED, _MORE = 0.95, 0.05
"""Share of the highest rate, below which the rate counts as falling; and the gain in progress after which a falling
rate counts as healthy."""
ADDED_UP = 0.2
_SHORT_OF = 0.9
ADAMS_HIGHEST = 0.1
"""Rate of Adam; few weights of a network are larger."""
FAR_SOME, FAR_TIMES, FAR_GAIN = 0.8, 1.1, 0.1
"""For rates from ADAMS_HIGHEST on: the highest progress that is examined, how many times better a lower rate has to be,
and by how much its progress has to be higher; less than is needed for other rates."""
FAR_LATER, _TENTH = 2.0, 0.1
"""How many times better a tenth of such a rate has to be after four times the steps, if it is not that much better
before."""
LARGE, LARGE_LATER, LARGE_GAIN = 0.02, 1.2, 0.15
"""Rate of Adam that is large for most networks; how many times better a tenth of it has to be after more steps, and by
how much its progress has to be higher, where less than half is learned."""
LARGE_TIMES = 2.5
"""How many times better a lower rate has to be than a large one, from LITTLE up to FAR_SOME."""
NEARLY = 0.7
"""Share of the final rate of a warmup, from which on a rate counts as reached."""
LEAP, MUCH_FARTHER = 10.0, 0.3
"""Growth of the loss over its first value, and a rate of Adam, from which on such a rate is too high even if the loss
after more steps is nearly as low."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    """Where the trial diverges, or learns little or only a part, and its steps are large, tries lower rates."""
    if not rates_are_users(evidence):
        return
    trial, own = evidence.trial, evidence.progress
    if (finding := _after_warmup(evidence, own) or _momentum_adds_up(evidence)) is not None:
        yield finding
        return
    first, usual = first_movement(trial), movement(trial)
    far, large = _as_large_as_weights(trial), _reaches(trial, LARGE)
    if own.share > (FAR_SOME if large else SOME) or first is None or max(first, usual or 0) < LARGE_MOVE:
        return
    for factor in _factors(first):
        lower = at_rate(evidence, factor)
        other = evidence.progress_of(lower)
        needed = 1.5 if own.share < LITTLE else FAR_TIMES if far else LARGE_TIMES if large else 4.0
        if other.beats(own, needed) and other.share > max(own.share, 0.0) + (FAR_GAIN if far else GAIN):
            if (
                few_updates(trial)
                and math.isfinite(own.level)
                and share_after_more_updates(evidence) > max(own.share, LITTLE)
            ):
                return
            if share_with_own_batches(evidence) > SOME:
                return
            severity = "error" if own.share < LITTLE else "warning"
            farther = max(highest_rates(trial), default=0.0) >= MUCH_FARTHER
            short = 0.0 if farther or max(trial.losses) > LEAP * trial.losses[0] else FAR_GAIN
            enough = own.share + _MORE if _is_lowered(trial) else other.share - short if large else SOME
            if severity == "warning" and share_after_more_steps(evidence) > enough:
                break
            yield _finding(trial, own, other, factor, severity)
            series = {
                f"as given: {_rate(trial, 1)}": _finite(trial),
                f"as tried: {_rate(trial, factor)}": _finite(lower),
            }
            evidence.pictures["optim.lr-too-high"] = Picture("lines", "Loss by step", series)
            return
    if (late := _worse_later(evidence, own)) is not None:
        yield late


def _worse_later(evidence: Evidence, own: Progress) -> Finding | None:
    """The finding for a large rate of Adam or a similar optimizer that learns nearly as fast as a tenth of it in the
    trial, but much less after more steps."""
    trial, far = evidence.trial, _as_large_as_weights(evidence.trial)
    most, times, gain = (FAR_SOME, FAR_LATER, GAIN) if far else (SOME, LARGE_LATER, LARGE_GAIN)
    if not _reaches(trial, LARGE) or (far and _is_lowered(trial)) or own.share > most:
        return None
    if evidence.progress_of(at_rate(evidence, _TENTH)).level >= own.level:
        return None
    same, other = progress_of_both_after_more_steps(evidence, at_factor(evidence, _TENTH))
    if same.share > most or not other.beats(same, times) or other.share < same.share + gain:
        return None
    return _finding(trial, same, other, _TENTH, "error" if same.share < LITTLE else "warning")


def _after_warmup(evidence: Evidence, own: Progress) -> Finding | None:
    """The finding for the final rate of a warmup, which the trial does not reach, and with which Adam or a similar
    optimizer learns nothing."""
    optimizer = evidence.setup.optimizer
    if not isinstance(optimizer, torch.optim.Optimizer) or "adam" not in type(optimizer).__name__.lower():
        return None
    rate = max(
        float(optimizer.defaults.get("lr", 0.0)), *(float(g.get("initial_lr", 0)) for g in optimizer.param_groups)
    )
    if (planned := highest_planned(evidence)) is not None:  # with `LambdaLR`, the optimizer's own rate may be 1
        rate = min(rate, planned)
    reached = max(highest_rates(evidence.trial), default=0.0)
    if rate < ADAMS_HIGHEST or not 0 < reached < _SHORT_OF * rate:
        return None
    other = evidence.progress_of(at_held_rates(evidence, [rate] * len(optimizer.param_groups)))
    if other.share > max(LITTLE, own.share / 2):
        return None
    return Finding(
        code="optim.lr-too-high",
        severity="error",
        where="the optimizer",
        measured=f"the rate is rising to {rate_text([rate])}; with that rate throughout the loss after "
        f"{several(other.steps, 'step')} is {other}, and a constant prediction has {number(other.chance)}",
        threshold=f"{ADAMS_HIGHEST:g} for {type(optimizer).__name__}, and less than {percent(LITTLE, 0)} of "
        "the way from chance to 0 with it",
        why="Each step of Adam moves each weight by about the learning rate, whatever the gradient. Weights are "
        "smaller than that.",
        remedy=rate_remedy("a rate of 0.001 to 0.003 after the warmup", 1e-3),
    )


def _as_large_as_weights(trial: Trial) -> bool:
    """Whether Adam or a similar optimizer moves weights by about their own size in a step, at once or at the end of a
    warmup that is nearly over."""
    return _reaches(trial, ADAMS_HIGHEST)


def _reaches(trial: Trial, rate: float) -> bool:
    """Whether Adam or a similar optimizer has at least this rate, at once or at the end of a warmup that is nearly
    over."""
    optimizer = trial.replica.optimizer
    if not isinstance(optimizer, torch.optim.Optimizer) or "adam" not in type(optimizer).__name__.lower():
        return False
    reached = max(highest_rates(trial), default=0.0)
    final = max(float(group.get("initial_lr", 0.0)) for group in optimizer.param_groups)
    return max(reached, final if NEARLY * final <= reached else 0.0) >= rate


def _momentum_adds_up(evidence: Evidence) -> Finding | None:
    """The finding for RMSprop with a momentum so near to 1 that its steps, each about as long as the rate, add up."""
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
                why="Few weights are as large as such a step: what was learned is lost when gradients change "
                "direction.",
                remedy=Remedy(
                    f"`torch.optim.RMSprop(model.parameters(), lr={rate:g}, momentum=0.9)`, or with this momentum "
                    f"a rate of {0.02 * (1 - momentum):.1g}",
                    settings={"optim.momentum": 0.9},
                ),
            )
    return None


def _is_lowered(trial: Trial) -> bool:
    """Whether the rate is falling when the trial ends."""
    rates = [max(row.rates) for row in trial.rows if row.rates]
    return bool(rates) and rates[-1] < _LOWERED * max(rates)


def _factors(first: float) -> list[float]:
    """Powers of ten below 1 to multiply the rate by, at most three. The first makes steps of about a hundredth of the
    parameters' norm. `first`: the movement in the first step, as a share of that norm."""
    known = math.isfinite(first) and first > 0
    best = min(-1, round(math.log10(1e-2 / first))) if known else -3
    nearest = [best, best - 1, best + 1]
    return [10.0**power for power in nearest if -6 <= power <= -1][:3]


def _finding(trial: Trial, own: Progress, other: Progress, factor: float, severity: str) -> Finding:
    rate = _rate(trial, factor)
    measured = (
        f"with {rate} instead of {_rate(trial, 1)} the loss after {several(other.steps, 'step')} is {other} instead "
        f"of {own}; a constant prediction has {number(own.chance)}"
    )
    return Finding(
        code="optim.lr-too-high",
        severity=severity,  # type: ignore[arg-type]
        where="the optimizer",
        measured=measured,
        threshold=f"less than {percent(LITTLE, 0)} of the way from chance to 0, and a smaller rate that is 1.5 times "
        "better",
        why="Steps this long overshoot the minimum: the loss grows, or does not fall.",
        remedy=_remedy(trial, factor),
    )


def _remedy(trial: Trial, factor: float) -> Remedy:
    rates = highest_rates(trial)
    if not rates:
        return Remedy(f"Multiply the update that your step applies to the parameters by {factor:g}.")
    lower = [rate * factor for rate in rates]
    text = f"`{optimizer_line(trial.replica.optimizer, lower)}`; halve the rate while the loss still grows."
    return rate_remedy(text, lower[0])


def _rate(trial: Trial, factor: float) -> str:
    rates = highest_rates(trial)
    if not rates:
        return "the original steps" if factor == 1 else f"steps scaled by {factor:g}"
    return f"lr {rate_text([rate * factor for rate in rates])}"


def _finite(trial: Trial) -> tuple[float, ...]:
    return tuple(loss for loss in trial.losses if math.isfinite(loss))


LR_TOO_HIGH = Check(
    codes=("optim.lr-too-high",),
    run=_run,
    quick=False,
    explains="loss.not-finite model.collapsed model.dead-units model.saturated fit.*",
)
