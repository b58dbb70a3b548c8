"""The budget is kept by the clock on the wall, however long steps take, and what was left out is said."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import nn

import striate
from for_checks.asked import digits
from striate.doctor import diagnose
from striate.machine.load import Load

CLOCKED = ("clock", "trial", "evidence", "predictions", "read_batches")


@pytest.mark.parametrize("seconds_a_step", [pytest.param(0.3, marks=pytest.mark.slow), 2.0])
def test_slow_steps_keep_the_budget(seconds_a_step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    time = [0.0]
    modules = [f"striate.doctor.evidence.{name}" for name in CLOCKED] + ["striate.doctor.checks.speed.small_batch"]
    for name in modules:
        monkeypatch.setattr(importlib.import_module(name), "perf_counter", lambda: time[0])

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> torch.Tensor:
        time[0] += seconds_a_step
        optimizer.zero_grad()
        value: torch.Tensor = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value.detach()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    found = striate.diagnose(
        model, digits(), loss=nn.CrossEntropyLoss(), optimizer=optimizer, step=step, budget_seconds=20
    )
    assert time[0] <= 1.2 * 20
    assert found.seconds <= 1.2 * 20
    assert found.skipped
    assert f"not looked at: {len(found.skipped)} checks" in str(found).replace("\n  ", " ")
    assert not found.healthy


@pytest.mark.slow
def test_what_is_still_at_chance_is_trained_longer() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-7)
    found = striate.diagnose(model, digits(), loss=nn.CrossEntropyLoss(), optimizer=optimizer, budget_seconds=60)
    quick = torch.optim.SGD(model.parameters(), lr=0.05)
    learned = striate.diagnose(model, digits(), loss=nn.CrossEntropyLoss(), optimizer=quick, budget_seconds=60)
    assert "after 160 steps" in learned.learning.text
    assert found.findings or "after 960 steps" in found.learning.text


def test_steps_take_no_cores_that_others_compute_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose, "maybe_busy", lambda: True)
    seen = []
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        for taken in (0.2, 0.9, 3.9):
            monkeypatch.setattr(diagnose, "current_load", lambda taken=taken: Load(4, taken, 0.1))
            with diagnose.threads_to_spare():
                seen.append(torch.get_num_threads())
            assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert seen == [4, 3, 1]
