"""What is loaded, measured or planned leaves the random numbers of its caller as they are, also the first time."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import striate
from striate.errors import UsageError

FIRST_USE = """
import random
random.seed(3)
before = random.getstate()
import striate
striate.train, striate.plan_training, striate.summarize
from striate.api import announcer
assert "rich.console" in __import__("sys").modules
assert random.getstate() == before
"""


@pytest.mark.slow
def test_the_first_use_of_a_name_draws_nothing() -> None:
    subprocess.run([sys.executable, "-c", FIRST_USE], check=True)


def test_a_run_is_loaded_and_measured_without_drawing(tmp_path: Path) -> None:
    striate.train("digits", "conv(4,3) relu gap fc(10)", epochs=1, out=tmp_path / "run")
    states = torch.get_rng_state(), random.getstate()
    striate.load(tmp_path / "run")
    striate.evaluate(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


def test_trainings_of_two_threads_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    inside: list[int] = []

    def training(*_: object) -> None:
        inside.append(threading.get_ident())
        time.sleep(0.02)
        assert inside.pop() == threading.get_ident()
        raise UsageError("train", "two", "one", "wait")

    monkeypatch.setattr("striate.api.training._train", training)

    def train(number: int) -> bool:
        with pytest.raises(UsageError):
            striate.train("digits", "mlp(4)", epochs=1, seed=number)
        return True

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(train, range(3)))
