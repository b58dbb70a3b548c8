"""The time budget of a diagnosis, and the errors that skip a check."""

from __future__ import annotations

from time import perf_counter


class NoEvidence(Exception):
    """Something cannot be measured of this setup; the text says why. A check that needs it is skipped."""


class OutOfTime(NoEvidence):
    """There is no time left to measure something."""


class Clock:
    """Counts down from `budget` seconds."""

    def __init__(self, budget: float) -> None:
        self.budget, self.started = budget, perf_counter()

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return perf_counter() - self.started

    @property
    def left(self) -> float:
        """Seconds until the budget is used up; negative after."""
        return self.budget - self.spent

    def until(self, share: float, most: float = float("inf")) -> float:
        """A deadline on perf_counter: after `share` of the budget, or `most` seconds, or nearly all of the time left,
        whichever is first."""
        return perf_counter() + max(0.0, min(share * self.budget, 0.9 * self.left, most))

    def need(self, seconds: float) -> None:
        """Raise OutOfTime where fewer seconds are left."""
        if self.left < seconds:
            raise OutOfTime(f"the {self.budget:g} seconds ran out (--seconds; in Python, budget_seconds)")
