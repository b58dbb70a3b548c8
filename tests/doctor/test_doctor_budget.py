"""The budget is kept by the clock on the wall, however long steps take, and what was left out is said."""

from __future__ import annotations

import importlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import striate
from for_checks.asked import digits
from striate.doctor import diagnose
from striate.doctor.evidence.clock import Clock
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


ENDLESS = """
import sys
from contextlib import suppress
from pathlib import Path
from striate.doctor import diagnose
from striate.doctor.evidence.clock import Clock
from striate.doctor.checks.check import Check
from striate.doctor.checks.every import every_check
from striate.doctor.script.run_script import diagnose_script

def never_ends(evidence):
    while evidence.source is not None:
        with suppress(Exception):
            sum(range(100))
    return []

endless = Check(("eval.mode",), never_ends, "never", of_source=True)
diagnose.every_check = lambda: (endless, *every_check())
print(diagnose_script(Path("train.py"), seconds=12).diagnosis)
"""
SCRIPT = """
import signal, torch
from torch import nn
heard = []
signal.signal(signal.SIGALRM, lambda *_: heard.append(1))
signal.setitimer(signal.ITIMER_REAL, 3600)
x, y = torch.randn(512, 8), torch.randint(0, 3, (512,))
x[:, 0] += 4 * y
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=0)
for step in range(20):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x[:64]), y[:64]).backward()
    optimizer.step()
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
def test_a_check_that_never_ends_is_interrupted_and_said(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-c", ENDLESS], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    said = " ".join(done.stdout.split())
    assert "optim.lr-too-low" in said, done.stdout
    assert "was interrupted" in said, done.stdout


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
def test_a_timer_of_the_script_goes_on() -> None:
    heard = list[int]()
    before = signal.signal(signal.SIGALRM, lambda *_: heard.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        began = Clock(1.0)
        with Clock(1.0).interrupting(5.0):
            assert not heard
        while not heard and began.spent < 30:
            pass
        assert heard
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
