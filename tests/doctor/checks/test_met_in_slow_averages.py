"""Schedules in a row, averages that hardly move and noise that drowns points: faults that were met in scripts, and
their healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import digits, perceptron
from test_met_in_vision_scripts import read
from torch import nn
from torch.optim.lr_scheduler import LinearLR, SequentialLR, StepLR

from striate.doctor.checks.optim.scheduler_calls import CHECK as SCHEDULER_CALLS

STEPPED = """
def train(loader, schedule):
    for x, y in loader:
        step(model, x, y)
        schedule.step()
"""


@pytest.mark.parametrize(("each", "begins", "wrong"), [(5, 1, True), (100, 20, False), (5, 20, False)])
def test_a_warmup_and_steps_down_that_come_with_each_batch(each: int, begins: int, wrong: bool) -> None:
    """Of which 20 are an epoch: where lengths are those of epochs, the rate is gone within the first."""
    model, train = perceptron(), digits()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    parts: list[Any] = [LinearLR(optimizer, 0.2, total_iters=begins), StepLR(optimizer, each, 0.1)]
    names = {"model": model, "schedule": SequentialLR(optimizer, parts, [begins])}
    options: Any = {"loss": nn.CrossEntropyLoss(), "optimizer": optimizer}
    said = read(STEPPED, SCHEDULER_CALLS, model, train, names=names, **options)
    assert [one.code for one in said] == ["optim.lr-schedule"] * wrong
