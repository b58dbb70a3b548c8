"""Early stopping, and which epoch was the best."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from striate.tasks.classify.task import Classify
from striate.training.early_stop import best_epoch, early_end, out_of_patience
from striate.training.events import EpochRow

TASK = Classify(("a", "b"))


def history(accuracies: list[float], losses: list[float] | None = None) -> list[EpochRow]:
    losses = losses or [1.0] * len(accuracies)
    rows = zip(accuracies, losses, strict=True)
    return [EpochRow(n, n, 0.1, {}, {"accuracy": a, "loss": b}, 1.0, 1) for n, (a, b) in enumerate(rows, 1)]


@pytest.mark.parametrize(
    ("accuracies", "patience", "stops"),
    [
        ([0.5, 0.6, 0.7], 1, False),
        ([0.5, 0.7, 0.6], 1, True),
        ([0.5, 0.7, 0.6], 2, False),
        ([0.5, 0.7, 0.6, 0.65], 2, True),
        ([0.7, 0.6, 0.8, 0.7], 2, False),
        ([0.7], 1, False),
        ([0.9, 0.1, 0.1, 0.1], 0, False),
        ([0.9, 0.1, 0.1, 0.1], None, False),
        ([0.7, 0.7, 0.7], 1, False),  # an equal epoch is the better one: it has seen more
    ],
)
def test_it_stops_when_so_many_epochs_were_no_better(accuracies, patience, stops) -> None:
    assert out_of_patience(history(accuracies), TASK, patience) is stops


def test_at_equal_accuracy_the_loss_decides() -> None:
    rows = history([0.9, 0.9, 0.9], [0.3, 0.2, 0.4])
    assert best_epoch(rows, TASK) == 2
    assert out_of_patience(rows, TASK, 1)


def test_an_early_end_is_told_and_a_whole_training_is_not() -> None:
    rows = history([0.5, 0.9, 0.6, 0.6])
    told = "training ended after epoch 4 of 9: epoch 2 was the best on validation (budget.patience)"
    assert early_end(rows, TASK, 9) == told
    assert early_end(rows, TASK, 4) is None


@given(st.lists(st.integers(0, 4).map(lambda n: n / 4), min_size=1, max_size=30), st.integers(1, 6))
def test_it_never_stops_before_and_always_at_the_first_time_that_it_may(accuracies, patience) -> None:
    """Beside a plain count of epochs since the last one that was at least as good as all before."""
    best, since, expected = -1.0, 0, None
    for number, accuracy in enumerate(accuracies, 1):
        best, since = (accuracy, 0) if accuracy >= best else (best, since + 1)
        if since >= patience and expected is None:
            expected = number
    rows = history(accuracies)
    stopped = next((n for n in range(1, len(rows) + 1) if out_of_patience(rows[:n], TASK, patience)), None)
    assert stopped == expected
