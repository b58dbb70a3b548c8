"""When the program began, and how fast plain Python is here."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest

from striate.machine import load, program_start
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


@pytest.mark.parametrize("slower", [0.5, 1.0, 3.0])
def test_plain_python_that_takes_longer_is_slower(slower: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def work() -> dict[int, str]:
        clock[0] += slower * load.REFERENCE
        return {}

    monkeypatch.setattr(load, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(load, "_work", work)
    assert load.python_slowdown(0.01) == pytest.approx(slower)
    assert load.python_slowdown(0.0) == pytest.approx(slower)


def test_plain_python_takes_about_as_long_on_any_machine_of_today() -> None:
    assert 0.05 < load.python_slowdown(0.02) < 100
