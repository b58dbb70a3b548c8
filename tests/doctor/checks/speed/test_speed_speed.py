"""Checks of `speed.`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, perceptron
from striate.doctor.checks.speed import slow_plan
from striate.doctor.checks.speed.slow_plan import SLOW_PLAN
from striate.doctor.evidence.trial import Trial

LOSS = nn.CrossEntropyLoss()


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
    monkeypatch.setattr(slow_plan, "fastest_step", lambda trial: seconds[0] if width(trial) == 8 else seconds[1])
    findings = asked(SLOW_PLAN, perceptron().double(), in_double_precision(), loss=LOSS)
    assert len(findings) == found
    assert all("20.0 ms in float64 and 8.0 ms in float32: 2.5 times as fast" in one.measured for one in findings)


def test_double_precision_of_quick_steps_is_let_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_plan, "_DOUBLE_SECONDS", 1.0)
    assert not asked(SLOW_PLAN, perceptron().double(), in_double_precision(), loss=LOSS)


@pytest.mark.parametrize("half", [True, False])
def test_other_layouts_and_formats_where_steps_are_long(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_plan, "_LONG", 0.0)
    monkeypatch.setattr(slow_plan, "bf16_pays_on_cpu", lambda: half)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    last: list[bool] = []

    def fastest(trial: Trial) -> float:
        weight = trial.replica.model[0].weight  # type: ignore[index, union-attr]
        last.append(weight.is_contiguous(memory_format=torch.channels_last))
        seconds = (0.04, 0.05, 0.02, 0.03) if half else (0.04, 0.02)
        return seconds[len(last) - 1]

    monkeypatch.setattr(slow_plan, "fastest_step", fastest)
    (found,) = asked(SLOW_PLAN, model, digits(), loss=LOSS)
    assert "channels last is 2.0 times as fast" in found.measured
    assert ("bfloat16" in found.measured) == half
    assert "memory_format=torch.channels_last" in found.remedy
