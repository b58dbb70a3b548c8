"""Rates that are gone long before the training is over: a schedule whose lengths are too short."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from itertools import pairwise, takewhile

from striate.doctor.checks.optim.schedule.planned_rates import passes_in_all
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.rates import steps_an_epoch
from striate.records import Finding, Remedy
from striate.wording import several

LOW = 0.1
"""Schedules end at a tenth of their rate or less: a trial is a few epochs, too early for that."""
GONE = 0.02
"""Of the highest rate: what comes after hardly counts."""
MUCH_TO_LEARN = 0.6
"""Share of the way from chance to a loss of 0, above which a rate may come down as it likes."""
FALL_STEPS, FALL_EPOCHS = 20, 3
"""Who lowers the rate later has seen some epochs with the full one, and may mean it."""
_EARLY, _HALF = 0.25, 0.5
"""Shares of the training, and of an epoch, before which a rate is gone too early."""
_FALLS, _DIVIDED = 3, 2.0
"""Falls by one factor, and by what they divide the rate at least, that are meant to have epochs between them."""
_MOST_OF_EPOCH, _MOST_EPOCHS, _FLAT = 0.85, 2, 8
"""Of a training of one epoch a cosine comes down to GONE after nine tenths of it; epochs in whose middle no schedule
ends at 0; and steps without any change, which a rate that comes back has not."""
_FLOOR, _FLOOR_EARLY, _SMOOTH = 0.2, 0.15, 0.1
"""A floor, of the highest rate, that is reached before so much of the training is over, by a fall whose last change is
less than that share of the highest rate: a curve that was meant for all of it, not a step down."""


def ends_early(
    evidence: Evidence, shares: Sequence[float], schedules: Sequence[tuple[list[float], int, str]]
) -> Finding | None:
    """A rate that is gone for good in the first part of the training that the script's loops make: as the trial's
    steps had it, or as schedules will."""
    made = len(evidence.trial.rows) / len(shares)  # passes of the loop for each step of the optimizer
    every = [(shares, passes_in_all(evidence) / made, "step")]
    for rates, steps, unit in schedules:
        if (highest := max(rates)) > 0 and len(rates) == steps:
            every.append(([rate / highest for rate in rates], steps, unit))
    for known, planned, unit in every:
        gone = len(known) - _at_the_end(known, lambda share: share <= GONE)
        enough = len(known) - gone >= (FALL_STEPS if unit == "step" else FALL_EPOCHS)
        if enough and 0 < gone <= _EARLY * planned and len(known) <= planned:
            limit = f"{GONE:g} of the highest rate before {_EARLY:.0%} of the training is over"
            return _gone(f"{unit} {gone + 1} of {round(planned):,}", max(known[gone:]), limit)
        flat = _on_the_floor(known)
        if unit == "step" and flat is not None and flat <= _FLOOR_EARLY * planned and len(known) <= planned:
            limit = (
                f"{_FLOOR:g} of the highest rate or less for the rest, after a smooth fall or right after the "
                "peak, before "
            )
            limit += f"{_FLOOR_EARLY:.0%} of the training is over"
            return _gone(f"{unit} {flat + 1} of {round(planned):,}", known[-1], limit)
    return None


def gone_within_an_epoch(evidence: Evidence, shares: Sequence[float]) -> Finding | None:
    """A rate that is gone for good in the first half of an epoch, or comes down smoothly before most of it is over,
    where no loops tell how many there will be: steps down are made at three quarters of one."""
    train = evidence.setup.train
    if passes_in_all(evidence) or not isinstance(train, Sized):
        return None
    made, gone = len(evidence.trial.rows) / len(shares), len(shares) - _at_the_end(shares, lambda share: share <= GONE)
    smooth = gone > 0 and shares[gone - 1] < _SMOOTH
    most = _MOST_OF_EPOCH if smooth else _HALF
    stays = len(shares) - gone >= FALL_STEPS or _at_the_end(shares, lambda share: share == shares[-1]) >= _FLAT
    if not (0 < gone < len(shares) and stays):
        return None
    if gone * made > most * len(train):
        return _at_zero_between_epochs(shares, len(train) / made)
    limit = (
        f"{GONE:g} of the highest rate before {_HALF:.0%} of an epoch is over, or {_MOST_OF_EPOCH:.0%} in a smooth fall"
    )
    return _gone(f"step {gone + 1} of {len(train):,} in an epoch", max(shares[gone:]), limit)


def _at_zero_between_epochs(shares: Sequence[float], epoch: float) -> Finding | None:
    """A rate that is 0 from the middle of an early epoch on: who plans so few ends with one."""
    zeros = _at_the_end(shares, lambda share: share == 0)
    begun = len(shares) - zeros
    if zeros < _FLAT or _is_whole(begun, epoch) or begun > _MOST_EPOCHS * epoch:
        return None
    return _gone(
        f"step {begun + 1} (in the middle of an epoch of {round(epoch)} steps)",
        0.0,
        f"a rate of 0 for at least {_FLAT} steps, from the middle of one of the first {_MOST_EPOCHS} epochs on",
    )


def divided_within_epochs(evidence: Evidence, shares: Sequence[float]) -> Finding | None:
    """A rate that is divided by the same number every so many steps, which together are less than an epoch."""
    made = len(evidence.trial.rows) / len(shares)
    falls = [step for step, (before, now) in enumerate(pairwise(shares), 1) if now != before]
    lengths = {after - before for before, after in pairwise(falls)}
    ratios = [shares[step - 1] / max(shares[step], 1e-300) for step in falls]
    if len(falls) < _FALLS or len(lengths) > 1 or min(ratios) < _DIVIDED or max(ratios) > 1.01 * min(ratios):
        return None
    every, epoch = made * lengths.pop(), steps_an_epoch(evidence)
    if every >= epoch or shares[-1] > LOW or evidence.progress.share > MUCH_TO_LEARN:
        return None
    return _gone(
        f"step {falls[-1] + 1} (the rate is divided by {ratios[0]:.3g} every {several(round(every), 'step')}, an epoch "
        f"has {epoch:,.0f})",
        shares[-1],
        f"the rate falls {_FALLS} times by the same factor of {_DIVIDED:g} or more, less than an epoch apart, to "
        f"{LOW:g} of its highest or less, before much is learned",
    )


def gone_between_epochs(evidence: Evidence, shares: Sequence[float]) -> bool:
    """Whether the rate has come down to next to nothing and stays there, from the middle of an epoch on, where no loops
    tell how many there will be: who plans few epochs ends with one."""
    begun = len(shares) - _at_the_end(shares, lambda share: share == shares[-1])
    epoch = steps_an_epoch(evidence) * len(shares) / max(len(evidence.trial.rows), 1)
    stays = 1 < len(shares) - begun < len(shares)
    return shares[-1] <= GONE and stays and not passes_in_all(evidence) and not _is_whole(begun, epoch)


def _is_whole(begun: int, epoch: float) -> bool:
    """Whether a step is the first one behind an epoch, or nearly."""
    return abs(begun - round(begun / epoch) * epoch) <= 1


def _at_the_end(shares: Sequence[float], holds: Callable[[float], bool]) -> int:
    """Of how many of the last shares it holds."""
    return sum(1 for _ in takewhile(holds, reversed(shares)))


def _on_the_floor(shares: Sequence[float]) -> int | None:
    """The step from which on the rate no more changes, where it came down to that smoothly, or from the peak of a rise;
    None where it did neither."""
    flat = len(shares) - _at_the_end(shares, lambda share: share == shares[-1])
    falls = shares[max(0, flat - FALL_STEPS // 2) : flat + 1]
    smooth = len(falls) > FALL_STEPS // 4 and all(0 < a - b < _SMOOTH for a, b in pairwise(falls))
    off_peak = flat > FALL_STEPS // 4 and shares[flat - 2] < shares[flat - 1] == max(shares)
    return flat if (smooth or off_peak) and len(shares) - flat >= FALL_STEPS and shares[-1] <= _FLOOR else None


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
