"""speed.sync-every-step: does a step stop again and again for numbers in Python, or go through samples one by one?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from for_checks.asked import asked, digits, loop, perceptron
from striate.doctor.checks.speed.sync_every_step import SYNC_EVERY_STEP

LOSS = nn.CrossEntropyLoss()


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
