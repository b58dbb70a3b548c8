"""Times of several ways to compute the same, for the plans of training and of inference; free of torch.

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

AHEAD = 0.02  # a smaller gain is not worth another way to compute
FEWEST = 3  # rounds
_HOPELESS_AT_ONCE, _HOPELESS = 1.6, 1.15
_ROUNDS_TO_TELL = 2
_ROUNDS = 15
_TURN = 0.03  # seconds: what a clock and a scheduler tell apart
_LOST = 10  # times what a step takes: no allocation makes up for that

C = TypeVar("C", bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """Seconds a step in each round, in order."""

    rounds: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """Of the middle round."""
        return median(self.rounds)

    @property
    def fastest(self) -> float:
        """Of the fastest round."""
        return min(self.rounds)

    @property
    def undisturbed(self) -> Timing:
        """The mean of the faster half of the rounds: on quiet cores whatever makes a round slower passes, a neighbor on
        the same machine most often."""
        return Timing((fmean(sorted(self.rounds)[: math.ceil(len(self.rounds) / 2)]),))

    @property
    def spread(self) -> float:
        """Half the interquartile range, as near as so few rounds tell: between the middle half of them. 0 for a single
        round."""
        ordered = sorted(self.rounds)
        cut = len(ordered) // 4
        return (ordered[len(ordered) - 1 - cut] - ordered[cut]) / 2

    @property
    def uncertainty(self) -> float:
        """Of `seconds`: the spread over the root of the number of rounds."""
        return self.spread / math.sqrt(len(self.rounds))

    def times(self, factor: float) -> Timing:
        """With each round so many times as long."""
        return Timing(tuple(factor * seconds for seconds in self.rounds))

    def and_round(self, seconds: float) -> Timing:
        """With one round more."""
        return Timing((*self.rounds, seconds))


def is_ahead(one: Timing, other: Timing) -> bool:
    """Whether `one` is faster than `other` by 2 % and by more than either is uncertain: else, both may be the same.

    Candidates take turns, so a machine that slows down slows both.
    """
    return other.seconds - one.seconds > max(AHEAD * other.seconds, one.uncertainty, other.uncertainty)


def is_hopeless(one: Timing, best: Timing) -> bool:
    """Whether more rounds of `one` would be wasted: its fastest is far behind what `best` usually takes."""
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
    """Times of those that could be timed, and why the others failed.

    `measure` gives the seconds that a candidate takes for so many steps; a step takes `about` seconds, and every
    candidate takes turns of the same number of steps. Ends after the `most` rounds, or when `seconds` are over, but not
    before the `fewest`; what is far behind is left out of the later rounds, but for the first candidate, which the
    others are compared with. `warm`: those that have computed before.
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
                    limit, first = _LOST * max(about, 1e-3), measure(candidate, 1)  # pays for allocation and kernels
                    if first > limit:  # a GPU loads kernels when they are first used, which may take seconds
                        first = measure(candidate, 1)
                    if first > limit:
                        timings[candidate] = Timing((first,))
                        continue
                timing = timings.get(candidate, Timing(()))
                timings[candidate] = timing.and_round(measure(candidate, count) / count)
            except Exception as error:  # whatever a candidate does not bear
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
    return f"failed: {error.got if isinstance(error, StriateError) else reason_of(error)}"
