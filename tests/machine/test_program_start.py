"""When the program began, and how much a thread is held up."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest

from striate.machine import program_start
from striate.machine.contention import slowdown
from striate.machine.program_start import seconds_since_start

CODE = """
import time; time.sleep(0.5)
from striate.machine.program_start import seconds_since_start
print(seconds_since_start())
"""


def test_what_came_before_the_first_line_of_ours_counts() -> None:
    told = float(subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True).stdout)
    assert told >= 0.5


def test_it_only_grows() -> None:
    told = [seconds_since_start() for _ in range(20)]
    assert all(a <= b for a, b in pairwise(told))
    assert told[0] > 0


def test_where_the_system_does_not_tell_psutil_does(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = seconds_since_start()
    monkeypatch.setattr(program_start, "Path", lambda _: (_ for _ in ()).throw(OSError("no /proc")))
    assert seconds_since_start() == pytest.approx(exact, abs=3)


def test_a_thread_is_never_faster_than_itself() -> None:
    assert slowdown(0.01) >= 1.0


def test_a_thread_that_gets_half_of_a_core_takes_twice_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def wall() -> float:
        clock[0] += 0.01
        return clock[0]

    monkeypatch.setattr("striate.machine.contention.perf_counter", wall)
    monkeypatch.setattr("striate.machine.contention.thread_time", lambda: clock[0] / 2)
    assert slowdown(0.5) == pytest.approx(2.0, rel=0.1)
