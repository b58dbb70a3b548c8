"""Which candidate to take, from the times that its steps took; free of torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from striate.training.plan.candidate import Candidate

AHEAD = 0.03  # a smaller gain is not worth another way to compute
_HOPELESS_AT_ONCE, _HOPELESS = 1.6, 1.15
_ROUNDS_TO_TELL = 2


@dataclass(frozen=True)
class Timing:
    """Seconds a step in each round, in order."""

    rounds: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """Of the middle round."""
        return median(self.rounds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as near as so few rounds tell: between the middle half of them.
        0 for a single round."""
        ordered = sorted(self.rounds)
        cut = len(ordered) // 4
        return (ordered[len(ordered) - 1 - cut] - ordered[cut]) / 2

    @property
    def uncertainty(self) -> float:
        """Of `seconds`: the spread over the root of the number of rounds."""
        return self.spread / math.sqrt(len(self.rounds))

    def and_round(self, seconds: float) -> Timing:
        """With one round more."""
        return Timing((*self.rounds, seconds))


def is_ahead(one: Timing, other: Timing) -> bool:
    """Whether `one` is faster than `other` by 3 % and by more than either is uncertain: else, both may be the same.

    Candidates take turns, so a machine that slows down slows both.
    """
    return other.seconds - one.seconds > max(AHEAD * other.seconds, one.uncertainty, other.uncertainty)


def is_hopeless(one: Timing, best: Timing) -> bool:
    """Whether more rounds of `one` would be wasted: its fastest is far behind what `best` usually takes."""
    limit = _HOPELESS if len(one.rounds) >= _ROUNDS_TO_TELL else _HOPELESS_AT_ONCE
    return min(one.rounds) > limit * best.seconds


def choose(timings: Mapping[Candidate, Timing]) -> Candidate:
    """The plainest candidate, or from there on each less plain one that is ahead of what was taken so far; of two that
    are as plain the faster."""
    first, *others = sorted(timings, key=lambda candidate: (candidate.plainness, timings[candidate].seconds))
    taken = first
    for one in others:
        taken = one if is_ahead(timings[one], timings[taken]) else taken
    return taken
