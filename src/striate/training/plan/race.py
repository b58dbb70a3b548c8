"""Timing candidates in turns, so that what the machine does besides slows all of them."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from striate.training.plan.candidate import Candidate
from striate.training.plan.choice import Timing, is_hopeless
from striate.training.plan.trial import Trials

_TURN = 0.03  # seconds: what a clock and a scheduler tell apart
_ROUNDS = 15
FEWEST = 3
_LOST = 10  # times what a step takes: no allocation makes up for that


def race(
    trials: Trials, candidates: Sequence[Candidate], seconds: float, about: float, *, fewest: int = FEWEST
) -> tuple[dict[Candidate, Timing], dict[Candidate, str]]:
    """Times of those that could be timed, and why the others failed.

    `about` is what a step takes, in seconds; every candidate takes turns of the same number of steps. Ends after 15
    rounds, or when `seconds` are over, but not before the `fewest`; what is far behind is left out of the later rounds,
    but for the first candidate, which the others are compared with.
    """
    count = max(1, round(_TURN / max(about, 1e-5)))
    timings: dict[Candidate, Timing] = {}
    failed: dict[Candidate, str] = {}
    alive = list(candidates)
    started = perf_counter()
    for number in range(_ROUNDS):
        for candidate in list(alive):
            try:
                if number == 0:
                    first = trials.seconds(candidate, 1)  # pays for allocation and the choice of kernels
                    if first > _LOST * max(about, 1e-3):
                        timings[candidate] = Timing((first,))
                        continue
                timing = timings.get(candidate, Timing(()))
                timings[candidate] = timing.and_round(trials.seconds(candidate, count) / count)
            except Exception as error:  # whatever a way of computing does not bear
                alive.remove(candidate)
                timings.pop(candidate, None)
                failed[candidate] = failure(error)
        if not alive:
            break
        best = min((timings[one] for one in alive), key=lambda timing: timing.seconds)
        alive = [one for one in alive if one == candidates[0] or not is_hopeless(timings[one], best)]
        elapsed = perf_counter() - started
        if elapsed > (seconds if number + 1 >= fewest else 2 * seconds):
            break
    return timings, failed


def failure(error: Exception) -> str:
    """One line that says what was raised."""
    text = " ".join(str(error).split()) or type(error).__name__
    return f"failed: {text[:160]}"
