"""Times several candidates that compute the same, for the plans of training and of inference; free of torch.

Candidates take turns, so that whatever else the machine does slows all of them alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from time import perf_counter
from typing import TypeVar

from striate.errors import StriateError, reason_of

AHEAD = 0.02  # a smaller gain counts as none
FEWEST = 3  # rounds
_HOPELESS_AT_ONCE, _HOPELESS = 1.6, 1.15
_ROUNDS_TO_TELL = 2
_ROUNDS = 15
_TURN = 0.03  # seconds of a turn: shorter ones are too noisy
_LOST = 10  # times a usual step: a first step that is slower rules the candidate out

C = TypeVar("C", bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """The time of a step."""

    rounds: tuple[float, ...]
    """Seconds per step in each round, in order."""

    @property
    def seconds(self) -> float:
        """Median over the rounds."""
        return median(self.rounds)

    @property
    def fastest(self) -> float:
        """Of the fastest round."""
        return min(self.rounds)

    @property
    def undisturbed(self) -> Timing:
        """The mean of the faster half of the rounds: on idle cores, slow rounds are due to other programs that run for
        a moment."""
        return Timing((fmean(sorted(self.rounds)[: math.ceil(len(self.rounds) / 2)]),))

    @property
    def half_interquartile_range(self) -> float:
        """Half the interquartile range of the rounds; 0 for a single round."""
        ordered = sorted(self.rounds)
        cut = len(ordered) // 4
        return (ordered[len(ordered) - 1 - cut] - ordered[cut]) / 2

    @property
    def uncertainty(self) -> float:
        """Standard error of `seconds`, roughly: half the interquartile range over the root of the number of rounds."""
        return self.half_interquartile_range / math.sqrt(len(self.rounds))

    def times(self, factor: float) -> Timing:
        """The timing with each round `factor` times as long."""
        return Timing(tuple(factor * seconds for seconds in self.rounds))

    def and_round(self, seconds: float) -> Timing:
        """The timing with one more round."""
        return Timing((*self.rounds, seconds))


def is_ahead(one: Timing, other: Timing) -> bool:
    """Whether `one` is faster than `other` by more than 2 % and by more than the uncertainty of either. Candidates take
    turns, so a machine that slows down slows both."""
    return other.seconds - one.seconds > max(AHEAD * other.seconds, one.uncertainty, other.uncertainty)


def is_hopeless(one: Timing, best: Timing) -> bool:
    """Whether further rounds of `one` are wasted: even its fastest round is far behind the median of `best`."""
    limit = _HOPELESS if len(one.rounds) >= _ROUNDS_TO_TELL else _HOPELESS_AT_ONCE
    return one.fastest > limit * best.seconds


def race(
    measure: Callable[[C, int], float],
    candidates: Sequence[C],
    seconds: float,
    about: float,
    *,
    fewest: int = FEWEST,
    most: int = _ROUNDS,
    warm: Container[C] = (),
) -> tuple[dict[C, Timing], dict[C, str]]:
    """The timings of the candidates, and why the others failed.

    `measure(candidate, count)` returns the seconds of `count` steps; a step takes about `about` seconds, and all turns
    have the same number of steps. The race ends after `most` rounds, or when `seconds` are over, but not before
    `fewest` rounds. Candidates that are far behind are left out of later rounds, except the first one, which the others
    are compared with. `warm`: candidates that have computed before.
    """
    count = max(1, round(_TURN / max(about, 1e-5)))
    timings: dict[C, Timing] = {}
    failed: dict[C, str] = {}
    alive = list(candidates)
    started = perf_counter()
    for number in range(most):
        for candidate in list(alive):
            try:
                if number == 0 and candidate not in warm:
                    limit, first = _LOST * max(about, 1e-3), measure(candidate, 1)  # warms up
                    if first > limit:  # a GPU loads kernels when they are first used, which may take seconds
                        first = measure(candidate, 1)
                    if first > limit:
                        timings[candidate] = Timing((first,))
                        continue
                timing = timings.get(candidate, Timing(()))
                timings[candidate] = timing.and_round(measure(candidate, count) / count)
            except Exception as error:  # whatever fails in this candidate
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
    """One line about an exception."""
    return f"failed: {error.got if isinstance(error, StriateError) else reason_of(error)}"
