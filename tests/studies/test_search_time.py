"""How long a search goes on, for trials made by hand."""

from __future__ import annotations

import pytest

from striate.studies.sweep import search
from striate.studies.sweep.journal import Trial
from striate.studies.sweep.train_once import TrainingOutcome


@pytest.mark.parametrize(
    ("rungs", "seconds"),
    [
        (((1, 5.0), (1, 0.0), (1, 0.0)), 5.0),
        (((1, 2.0), (1, 0.0), (2, 4.0)), 4.0),
        (((1, 1.0), (3, 3.0), (9, 9.0)), 9.0),
    ],
)
def test_a_whole_training_takes_as_long_as_the_rung_that_was_trained(
    rungs: tuple[tuple[int, float], ...], seconds: float
) -> None:
    outcomes = tuple(TrainingOutcome(epochs, 0, taken, {"accuracy": 0.9}, 0.9) for epochs, taken in rungs)
    assert search._full_seconds([Trial(0, {}, "complete", rungs[-1][0], outcomes)]) == seconds
