"""The learning rates of a script's own run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from striate.doctor.checks.own_run.called_networks import MANY_STEPS, STEPS_IF_COMPLETE
from striate.doctor.checks.own_run.check import OwnRunCheck
from striate.doctor.evidence.own_run import OwnRun
from striate.doctor.evidence.rates import (
    COMPOUNDED,
    COMPOUNDED_REMEDY,
    COMPOUNDED_WHY,
    compounded_rates,
    compounding_text,
)
from striate.wording import percent, several

_UP, _STILL_UP = 3.0, 0.2
_DOWN, _LATER = 0.03, 1 / 3


def _rate_still_rises(run: OwnRun) -> Iterator[tuple[str, str]]:
    over = run.ended and not run.cut
    for rates in run.rates.values():
        rising = all(one <= other for one, other in pairwise(rates))
        tail = rates[-max(2, int(_STILL_UP * len(rates))) :]
        if over and len(rates) >= MANY_STEPS and rising and rates[-1] >= _UP * rates[0] and tail[0] < rates[-1]:
            yield (
                "the learning rate's schedule",
                f"in all {several(len(rates), 'step')} of the script, the learning rate rises, from {rates[0]:.3g} to "
                f"{rates[-1]:.3g}, and training ends there",
            )
        top, begin = max(rates), int(_LATER * len(rates))
        left = max(rates[begin:])
        enough = len(rates) >= MANY_STEPS if over else left == 0 and len(rates) >= STEPS_IF_COMPLETE
        if enough and left <= _DOWN * top and top > 0:
            yield (
                "the learning rate's schedule",
                f"of {several(len(rates), 'step')} of the script, all from step {begin + 1} on have at most "
                f"{percent(left / top, 2)} of the highest rate",
            )


RATE_STILL_RISES = OwnRunCheck(
    "optim.lr-schedule",
    "warning",
    f"in a script that ran to its end, the rate rises {_UP:g} times until the last step, or is at most "
    f"{percent(_DOWN, 0)} of its highest in the last two thirds; in another, it is 0 in the last two thirds of "
    f"{STEPS_IF_COMPLETE} steps or more",
    "The schedule is made for a training of another length, or counts in units other than steps.",
    "give the schedule its number of steps: `len(loader) * epochs` if it is stepped with each batch, `epochs` if "
    "with each epoch; with gradient accumulation, count the optimizer's steps",
    _rate_still_rises,
)


def _rate_compounds(run: OwnRun) -> Iterator[tuple[str, str]]:
    for rates in run.rates.values():
        if (different := compounded_rates(rates)) is not None:
            yield "the learning rate's schedule", compounding_text(different)


RATE_COMPOUNDS = OwnRunCheck(
    "optim.lr-schedule", "warning", COMPOUNDED, COMPOUNDED_WHY, COMPOUNDED_REMEDY, _rate_compounds
)
