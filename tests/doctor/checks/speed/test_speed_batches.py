"""`speed.input-bound` and `speed.small-batch`: time that is lost between steps; how steps are timed."""

from __future__ import annotations

import time
from typing import Any

import pytest
from torch import nn
from torch.utils.data import DataLoader, Dataset

from for_checks.asked import asked, digits, perceptron
from striate.doctor.checks.speed.input_bound import INPUT_BOUND
from striate.doctor.checks.speed.small_batch import SMALL_BATCH

LOSS = nn.CrossEntropyLoss()


class Slow(Dataset[Any]):
    """Digits that take `seconds` each to be read."""

    def __init__(self, seconds: float) -> None:
        self.digits: Any = digits(8, 64).dataset
        self.seconds = seconds

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Any:
        time.sleep(self.seconds)
        return self.digits[index]


@pytest.mark.slow
def test_a_loader_that_takes_longer_than_the_step() -> None:
    (found,) = asked(INPUT_BOUND, perceptron(), DataLoader(Slow(0.005), 8), loss=LOSS)
    assert (found.code, found.severity) == ("speed.input-bound", "warning")
    assert "of the time is spent waiting" in found.measured
    assert "num_workers=4" in found.remedy


@pytest.mark.slow
def test_workers_prepare_batches_meanwhile() -> None:
    assert asked(INPUT_BOUND, perceptron(), DataLoader(Slow(0.0012), 8), loss=LOSS)
    assert not asked(INPUT_BOUND, perceptron(), DataLoader(Slow(0.0012), 8, num_workers=2), loss=LOSS)


def test_handing_out_tensors_is_quick_enough() -> None:
    assert not asked(INPUT_BOUND, perceptron(), digits(), loss=LOSS)


def test_batches_of_one() -> None:
    (found,) = asked(SMALL_BATCH, perceptron(), digits(1), loss=LOSS)
    assert (found.code, found.severity) == ("speed.small-batch", "warning")
    assert "times as many" in found.measured
    assert "batch_size=32" in found.remedy


def test_batches_of_eight_and_few_samples_are_let_pass() -> None:
    assert not asked(SMALL_BATCH, perceptron(), digits(8), loss=LOSS)
    assert not asked(SMALL_BATCH, perceptron(), digits(4, 64), loss=LOSS)
