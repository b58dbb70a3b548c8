"""The time budget of a diagnosis, and the errors that skip a check."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class NoEvidence(Exception):
    """Something cannot be measured of this setup; the text says why. A check that needs it is skipped."""


class OutOfTime(NoEvidence):
    """There is no time left to measure something."""


_AGAIN = 0.5  # seconds after which an interruption is repeated, in case that a bare `except` has caught it


class _Interrupted(BaseException):
    """No Exception, which the code that is interrupted might catch."""


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

    @contextmanager
    def interrupting(self, share: float) -> Iterator[None]:
        """Raise OutOfTime in the body after half of the time left, at least a `share` of the budget, wherever it is:
        code that never reads the clock may not end. Only in the main thread, and where there are timers (not on
        Windows)."""
        if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
            yield
            return
        seconds, began, inside = max(self.left / 2, share * self.budget), perf_counter(), True

        def interrupt(*_: object) -> None:
            if inside:
                raise _Interrupted

        earlier = signal.signal(signal.SIGALRM, interrupt)
        delay, interval = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
        try:
            yield
        except _Interrupted:
            raise OutOfTime(f"it was not done after {seconds:.0f} seconds, and was interrupted") from None
        finally:
            inside = False
            # The script may have a timer of its own.
            left = max(1e-3, delay - (perf_counter() - began)) if delay else 0.0
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, earlier or signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, left, interval)
