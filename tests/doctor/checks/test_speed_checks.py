"""What costs time: waiting for data or for numbers, small batches, slow ways to compute."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.doctor.checks.speed import slow_plan
from striate.doctor.checks.speed.batches import INPUT_BOUND, SMALL_BATCH
from striate.doctor.checks.speed.slow_plan import SLOW_PLAN
from striate.doctor.checks.speed.sync_every_step import SYNC_EVERY_STEP
from striate.doctor.evidence.trial import Trial

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


def one_by_one(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> float:
    optimizer.zero_grad()
    total = 0.0
    for x, y in zip(*batch, strict=True):
        value = loss(model(x[None]), y[None]) / len(batch[0])
        value.backward()
        total += value.item()
    optimizer.step()
    return total


@pytest.mark.slow
def test_samples_one_by_one() -> None:
    (found,) = asked(SYNC_EVERY_STEP, perceptron(), digits(), step=one_by_one, loss=LOSS)
    assert (found.code, found.severity) == ("speed.sync-every-step", "warning")
    assert "32 × `.item()`" in found.measured
    assert "called 32 times with one sample each, of a batch of 32" in found.measured
    assert "model(x)" in found.remedy


def test_numbers_of_every_layer() -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        value = loop(model, batch, optimizer, loss)
        for parameter in model.parameters():
            assert parameter.grad is not None
            [float(quantile) for quantile in parameter.grad.flatten().sort().values[:8]]
        return value

    (found,) = asked(SYNC_EVERY_STEP, perceptron(depth=3), digits(), step=step, loss=LOSS)
    assert "× `float()`" in found.measured
    assert "once in an epoch" in found.remedy


def test_a_loss_and_an_accuracy_to_print_are_two() -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> float:
        outputs = model(batch[0])
        value = loss(outputs, batch[1])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        f"{value.item():.3f} {(outputs.argmax(1) == batch[1]).float().mean().item():.1%}"
        return float(value)

    model = perceptron(depth=3)
    optimizer = torch.optim.Adam(model.parameters())  # which fetches its counters: none of the step's business
    assert not asked(SYNC_EVERY_STEP, model, digits(), step=step, loss=LOSS, optimizer=optimizer)


def test_a_batch_in_four_parts_is_no_loop_over_samples() -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> float:
        optimizer.zero_grad()
        for x, y in zip(batch[0].chunk(4), batch[1].chunk(4), strict=True):
            (loss(model(x), y) / 4).backward()
        optimizer.step()
        return 0.0

    assert not asked(SYNC_EVERY_STEP, perceptron(), digits(), step=step, loss=LOSS)


def test_batches_of_one() -> None:
    (found,) = asked(SMALL_BATCH, perceptron(), digits(1), loss=LOSS)
    assert (found.code, found.severity) == ("speed.small-batch", "warning")
    assert "times as many" in found.measured
    assert "batch_size=32" in found.remedy


def test_batches_of_eight_and_few_samples_are_let_pass() -> None:
    assert not asked(SMALL_BATCH, perceptron(), digits(8), loss=LOSS)
    assert not asked(SMALL_BATCH, perceptron(), digits(4, 64), loss=LOSS)


def looking_for_anomalies(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
    with torch.autograd.set_detect_anomaly(True):
        return loop(model, batch, optimizer, loss)


@pytest.mark.slow
def test_a_search_for_anomalies_in_the_step_or_around_it() -> None:
    (found,) = asked(SLOW_PLAN, perceptron(), digits(), step=looking_for_anomalies, loss=LOSS)
    assert (found.code, found.severity) == ("speed.slow-plan", "note")
    with torch.autograd.set_detect_anomaly(True):
        (found,) = asked(SLOW_PLAN, perceptron(), digits(), loss=LOSS)
    assert "set_detect_anomaly" in found.remedy


def in_double_precision() -> DataLoader[Any]:
    x = torch.randn(128, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, torch.arange(128) % 10), 16)


def width(trial: Trial) -> int:
    return next(trial.replica.model.parameters()).element_size()


@pytest.mark.parametrize(("seconds", "found"), [((0.02, 0.008), 1), ((0.02, 0.018), 0)])
def test_double_precision_where_steps_are_long(
    monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, float], found: int
) -> None:
    monkeypatch.setattr(slow_plan, "_DOUBLE_SECONDS", 0.0)
    monkeypatch.setattr(slow_plan, "best", lambda trial: seconds[0] if width(trial) == 8 else seconds[1])
    findings = asked(SLOW_PLAN, perceptron().double(), in_double_precision(), loss=LOSS)
    assert len(findings) == found
    assert all("20.0 ms in float64 and 8.0 ms in float32: 2.5 times as fast" in one.measured for one in findings)


def test_double_precision_of_quick_steps_is_let_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_plan, "_DOUBLE_SECONDS", 1.0)
    assert not asked(SLOW_PLAN, perceptron().double(), in_double_precision(), loss=LOSS)


def test_other_layouts_and_formats_where_steps_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_plan, "_LONG", 0.0)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    last: list[bool] = []

    def best(trial: Trial) -> float:
        weight = trial.replica.model[0].weight  # type: ignore[index, union-attr]
        last.append(weight.is_contiguous(memory_format=torch.channels_last))
        return (0.04, 0.05, 0.02, 0.03)[len(last) - 1]

    monkeypatch.setattr(slow_plan, "best", best)
    (found,) = asked(SLOW_PLAN, model, digits(), loss=LOSS)
    assert "channels last is 2.0 times as fast" in found.measured
    assert "memory_format=torch.channels_last" in found.remedy
