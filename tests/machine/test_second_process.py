"""A second process works where there is one, and nothing is lost where there is none or where it fails."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import pytest

from striate.machine import second_process
from striate.machine.second_process import begin_second, later

PROGRAM = """
import operator, os, sys
import numpy as np
from striate.machine.second_process import allow_second, begin_second, end_second, later
def prepare():
    import no_such_module
begin_second(prepare)
print(later(os.getpid).result() == os.getpid())  # it was not allowed
allow_second()
begin_second(prepare)
own = lambda: os.getpid()
try:
    print(later(os.getpid).result() != os.getpid())
    print(later(np.sum, np.arange(10)).result())
    print(later(operator.attrgetter("flags.writeable"), np.arange(10)).result())
    print(later(own).result() == os.getpid())
    print(later(os.getpid().__class__, "7").result())
    if sys.argv[1] == "dies":
        later(os._exit, 3)
    print(later(sum, [1, 2]).result())
finally:
    end_second()
"""


def run(word: str) -> list[str]:
    words = [sys.executable, "-c", PROGRAM, word]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_what_can_be_sent_is_done_elsewhere_and_all_else_here() -> None:
    assert run("lives") == ["True", "True", "45", "True", "True", "7", "3"]


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")
def test_what_a_dead_process_owes_is_done_here() -> None:
    assert run("dies") == ["True", "True", "45", "True", "True", "7", "3"]


def test_without_a_second_process_work_is_done_at_once() -> None:
    done: list[int] = []
    later(done.append, 1)
    assert done == [1]
    with pytest.raises(ZeroDivisionError):
        later(divmod, 1, 0).result()


def test_among_the_processes_of_a_training_there_is_no_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_process, "_ALLOWED", [True])
    monkeypatch.setenv("WORLD_SIZE", "2")
    begin_second(int)
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_large_arrays_are_not_sent() -> None:
    code = """
import numpy as np
from striate.machine.second_process import MOST_SENT, allow_second, begin_second, end_second, later
allow_second()
begin_second(int)
waits = later(len, np.zeros(MOST_SENT + 1, np.uint8))
print(waits._sent is None, waits.result() == MOST_SENT + 1)
end_second()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["True", "True"]
