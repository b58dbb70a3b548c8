"""Schedules that are shorter than the training: the rate is nearly 0 long before the training is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, takewhile

from torch.optim.lr_scheduler import ExponentialLR, MultiStepLR, StepLR

from striate.doctor.checks.optim.schedule.planned_rates import (
    batches_a_step,
    calls_of,
    passes_in_all,
    schedules_of,
)
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.rates import steps_an_epoch
from striate.doctor.setup.batch import batches_of
from striate.records import Finding, Remedy
from striate.wording import percent, several

BY_EPOCH = (
    "call `scheduler.step()` once an epoch, after the loop over batches; or give its lengths in batches (`len(train)` "
    "times the epochs)"
)
_WHOLE = (
    "give the schedule the number of steps of the whole training: `epochs * len(loader)`, divided by the number of "
    "batches that are accumulated for a step"
)
_COUNTED = " Often the schedule's lengths are meant in epochs but counted in batches."
_BY_FACTORS = (StepLR, MultiStepLR, ExponentialLR)
"""Schedules without a total length, most of which are meant to be stepped once an epoch."""
LOW = 0.1
"""Share of the highest rate at which schedules end; a trial of a few epochs is too early for that."""
GONE = 0.02
"""Share of the highest rate below which steps hardly count."""
MUCH_TO_LEARN = 0.6
"""Progress, from 0 at chance to 1 at a loss of 0, above which the rate may fall."""
FALL_STEPS, FALL_EPOCHS = 20, 3
"""Steps and epochs at the full rate, after which a fall may be intended."""
_EARLY, _HALF = 0.25, 0.5
"""Shares of the training, and of an epoch, before which a rate falls to GONE too early."""
_FALLS, _DIVIDED = 3, 2.0
"""Fewest falls by the same factor, and the smallest factor; such falls should be epochs apart."""
_MOST_OF_EPOCH, _MOST_EPOCHS, _FLAT = 0.85, 2, 8
"""Share of an epoch before which no smooth fall reaches GONE, since a cosine over one epoch does after nine tenths; the
epochs within which no schedule ends at 0; and the steps without change after which a rate does not rise again."""
_FLOOR, _FLOOR_EARLY, _SMOOTH = 0.2, 0.15, 0.1
"""`_FLOOR`: share of the highest rate that is constant for the rest; `_FLOOR_EARLY`: share of the training before which
it is reached; `_SMOOTH`: largest change per step of a smooth fall, as a share of the highest rate. A smooth fall is a
curve that was made for the full training, not a step down."""


def ends_early(
    evidence: Evidence, shares: Sequence[float], schedules: Sequence[tuple[list[float], int, str]]
) -> Finding | None:
    """The finding for a rate that falls to nearly 0, or to a constant floor, in the first part of the training that the
    script's loops plan: in the trial's steps, or according to schedules.

    `shares`: of the highest rate, for each step of the trial; `schedules`: rates, their number, and their unit.
    """
    every = [(shares, passes_in_all(evidence) / batches_a_step(evidence, len(shares)), "step")]
    for rates, steps, unit in schedules:
        if (highest := max(rates)) > 0 and len(rates) == steps:
            every.append(([rate / highest for rate in rates], steps, unit))
    for known, planned, unit in every:
        gone = len(known) - _at_the_end(known, lambda share: share <= GONE)
        enough = len(known) - gone >= (FALL_STEPS if unit == "step" else FALL_EPOCHS)
        if enough and 0 < gone <= _EARLY * planned and len(known) <= planned:
            limit = f"{GONE:g} of the highest rate before {percent(_EARLY, 0)} of the training is over"
            return _gone(evidence, f"{unit} {gone + 1} of {round(planned):,}", max(known[gone:]), limit)
        flat = _start_of_floor(known)
        if unit == "step" and flat is not None and flat <= _FLOOR_EARLY * planned and len(known) <= planned:
            limit = (
                f"{_FLOOR:g} of the highest rate or less for the rest, after a smooth fall or right after the "
                "peak, before "
            )
            limit += f"{percent(_FLOOR_EARLY, 0)} of the training is over"
            return _gone(evidence, f"{unit} {flat + 1} of {round(planned):,}", known[-1], limit)
    return None


def gone_within_an_epoch(evidence: Evidence, shares: Sequence[float]) -> Finding | None:
    """The finding for a rate that falls to nearly 0 in the first half of an epoch, or smoothly before most of it is
    over, where the number of epochs is unknown. A step down at three quarters of an epoch is usual."""
    epoch = batches_of(evidence.setup.train)
    if passes_in_all(evidence) or epoch is None:
        return None
    passes = batches_a_step(evidence, len(shares))
    gone = len(shares) - _at_the_end(shares, lambda share: share <= GONE)
    smooth = gone > 0 and shares[gone - 1] < _SMOOTH
    most = _MOST_OF_EPOCH if smooth else _HALF
    stays = len(shares) - gone >= FALL_STEPS or _at_the_end(shares, lambda share: share == shares[-1]) >= _FLAT
    if not (0 < gone < len(shares) and stays):
        return None
    if gone * passes > most * epoch:
        return _zero_from_mid_epoch(evidence, shares, epoch / passes)
    limit = (
        f"{GONE:g} of the highest rate before {percent(_HALF, 0)} of an epoch is over, or "
        f"{percent(_MOST_OF_EPOCH, 0)} in a smooth fall"
    )
    return _gone(evidence, f"step {gone + 1} of {epoch:,} in an epoch", max(shares[gone:]), limit)


def _zero_from_mid_epoch(evidence: Evidence, shares: Sequence[float], epoch: float) -> Finding | None:
    """The finding for a rate of 0 from the middle of an early epoch on; a training of so few epochs would end with an
    epoch. `epoch`: steps per epoch."""
    zeros = _at_the_end(shares, lambda share: share == 0)
    start = len(shares) - zeros
    if zeros < _FLAT or _starts_epoch(start, epoch) or start > _MOST_EPOCHS * epoch:
        return None
    return _gone(
        evidence,
        f"step {start + 1} (in the middle of an epoch of {round(epoch)} steps)",
        0.0,
        f"a rate of 0 for at least {_FLAT} steps, from the middle of one of the first {_MOST_EPOCHS} epochs on",
    )


def divided_within_epochs(evidence: Evidence, shares: Sequence[float]) -> Finding | None:
    """The finding for a rate that is divided by the same factor at regular distances of less than an epoch."""
    passes = batches_a_step(evidence, len(shares))
    falls = [step for step, (before, now) in enumerate(pairwise(shares), 1) if now != before]
    lengths = {after - before for before, after in pairwise(falls)}
    ratios = [shares[step - 1] / max(shares[step], 1e-300) for step in falls]
    if len(falls) < _FALLS or len(lengths) > 1 or min(ratios) < _DIVIDED or max(ratios) > 1.01 * min(ratios):
        return None
    every, epoch = passes * lengths.pop(), steps_an_epoch(evidence)
    if every >= epoch or shares[-1] > LOW or evidence.progress.share > MUCH_TO_LEARN:
        return None
    return _gone(
        evidence,
        f"step {falls[-1] + 1} (the rate is divided by {ratios[0]:.3g} every {several(round(every), 'step')}, an epoch "
        f"has {epoch:,.0f})",
        shares[-1],
        f"the rate falls {_FALLS} times by the same factor of {_DIVIDED:g} or more, less than an epoch apart, to "
        f"{LOW:g} of its highest or less, before much is learned",
    )


def gone_from_mid_epoch(evidence: Evidence, shares: Sequence[float]) -> bool:
    """Whether the rate is nearly 0 and constant from the middle of an epoch on, where the number of epochs is unknown;
    a training of few epochs would end with an epoch."""
    start = len(shares) - _at_the_end(shares, lambda share: share == shares[-1])
    epoch = steps_an_epoch(evidence) / batches_a_step(evidence, len(shares))
    stays = 1 < len(shares) - start < len(shares)
    return shares[-1] <= GONE and stays and not passes_in_all(evidence) and not _starts_epoch(start, epoch)


def _starts_epoch(step: int, epoch: float) -> bool:
    """Whether a step is the first one of an epoch, within one step."""
    return abs(step - round(step / epoch) * epoch) <= 1


def _at_the_end(shares: Sequence[float], holds: Callable[[float], bool]) -> int:
    """The number of shares at the end for all of which a condition holds."""
    return sum(1 for _ in takewhile(holds, reversed(shares)))


def _start_of_floor(shares: Sequence[float]) -> int | None:
    """The step from which on the rate is constant, if it falls to that value smoothly, or right after the peak of a
    rise; else None."""
    flat = len(shares) - _at_the_end(shares, lambda share: share == shares[-1])
    falls = shares[max(0, flat - FALL_STEPS // 2) : flat + 1]
    smooth = len(falls) > FALL_STEPS // 4 and all(0 < a - b < _SMOOTH for a, b in pairwise(falls))
    off_peak = flat > FALL_STEPS // 4 and shares[flat - 2] < shares[flat - 1] == max(shares)
    return flat if (smooth or off_peak) and len(shares) - flat >= FALL_STEPS and shares[-1] <= _FLOOR else None


def _gone(evidence: Evidence, place: str, share: float, limit: str) -> Finding:
    falling = next((one for one in schedules_of(evidence) if isinstance(one, _BY_FACTORS)), None)
    sites = calls_of(evidence.source, falling) if falling is not None else []
    if any(site.often == "epoch" for site in sites):
        why, remedy = "", "let the rate fall less often, or by a factor (`gamma`) nearer to 1"
    elif falling is not None:
        why, remedy = _COUNTED, BY_EPOCH
    else:
        why, remedy = _COUNTED, _WHOLE
    return Finding(
        code="optim.lr-schedule",
        severity="warning",
        where=sites[0].where if sites else "the learning rate's schedule",
        measured=f"from {place} on the rate is {share:.2g} of its highest",
        threshold=limit,
        why="The rest of the training changes almost nothing." + why,
        remedy=Remedy(remedy, settings={"schedule.name": "one-cycle"}),
    )
