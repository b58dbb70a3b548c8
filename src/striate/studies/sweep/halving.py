"""From cheap to expensive: short complete trainings first, longer ones for the better third of them."""

from __future__ import annotations

from collections.abc import Sequence

SHARES = (1 / 9, 1 / 3, 1.0)
"""The rungs: shares of a trial's epochs. Each is a training of its own from the first step to the last."""
KEPT = 3
"""One in so many goes on to the next rung."""


def rung_epochs(epochs: int) -> tuple[int, ...]:
    """The epochs of each rung of a training of `epochs`, at least 1; equal ones where there are too few to share."""
    return tuple(max(1, round(share * epochs)) for share in SHARES)


def goes_on(score: float, earlier: Sequence[float]) -> bool:
    """Whether a trial is among the best third of those that came this far, itself included; or the best of fewer
    than six. `earlier` has the scores at this rung of the trials before it, higher being better; of equals the
    earlier one is better.

    The rule of asynchronous successive halving (Li et al., "A system for massively parallel hyperparameter tuning",
    2020), applied once, when the trial arrives: it needs nothing but the past, so a repeat decides alike.
    """
    places = max(1, (len(earlier) + 1) // KEPT)
    return sum(other >= score for other in earlier) < places
