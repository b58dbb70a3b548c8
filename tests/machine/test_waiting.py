"""Short waits while others want the cores: a second team that comes and goes, and changes nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from striate.machine.waiting import IdleTeam, share_the_cores


def test_the_team_comes_and_goes_and_leaves_threads_and_results_as_they_were() -> None:
    threads, before = torch.get_num_threads(), threading.active_count()
    values = torch.randn(300, 300)
    products = values @ values
    team = IdleTeam()
    for wanted in (True, True, False, False, True, False):
        team.set(wanted)
        assert team.open is wanted
        assert threading.active_count() == before + wanted
        assert torch.get_num_threads() == threads
        assert torch.equal(values @ values, products)


def test_the_team_leaves_the_number_of_threads_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of torch is one for all threads: who sets it, and sets it back, may undo what a run has set meanwhile."""
    called: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", called.append)
    team = IdleTeam()
    team.set(True)
    team.close()
    assert (called, team.open) == ([], False)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
def test_the_team_is_one_of_threads_for_the_cores() -> None:
    """Counted in a process of its own: what the tests have computed so far has made threads too."""
    code = """
import os, torch
from striate.machine.load import own_cores
from striate.machine.waiting import IdleTeam
torch.set_num_threads(1)
before, team = len(os.listdir("/proc/self/task")), IdleTeam()
team.set(True)
print(len(os.listdir("/proc/self/task")) - before == max(2, len(own_cores())))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_who_has_decided_how_long_to_wait_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "7")
    before = threading.active_count()
    share_the_cores()
    assert threading.active_count() == before


WATCHED = """
import threading, time
import torch
from striate.machine import load, waiting

taken = [0.0]
waiting._EVERY = 0.02
load.load_since = lambda begin: load.Load(2, taken[0], 1.0)
opened = []
waiting.IdleTeam.set = lambda self, wanted: opened.append(wanted)
waiting.share_the_cores()

def until(wanted):
    end = time.monotonic() + 60
    while time.monotonic() < end and opened[-1:] != [wanted]:
        time.sleep(0.01)
    return opened[-1:] == [wanted]

print(until(False))
taken[0] = 1.5
print(until(True))
taken[0] = 0.1
print(until(False))
"""


@pytest.mark.slow
def test_it_follows_the_load() -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", WATCHED], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]


def test_a_program_that_never_loads_torch_is_not_made_to() -> None:
    code = (
        "import sys, time; from striate.machine import load, waiting; waiting._EVERY = 0.01;"
        "waiting.share_the_cores(); time.sleep(0.3); print('torch' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("False", "")


@pytest.mark.parametrize("failing", ["mark", "load_since"])
def test_where_the_load_cannot_be_read_it_ends_and_says_nothing(failing: str) -> None:
    code = f"""
import threading, time
from striate.machine import load, waiting
def fail(*_):
    raise PermissionError("/proc/stat")
load.{failing} = fail
waiting._EVERY = 0.01
waiting.share_the_cores()
watcher = [t for t in threading.enumerate() if t.name == "striate-load"]
for t in watcher:
    t.join(60)
print(len(watcher), [t.is_alive() for t in watcher])
"""
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("1 [False]", "")


ENDING = """
import threading
import torch
from striate.machine import load, waiting

waiting._EVERY = 0.02
load.load_since = lambda begin: load.Load(2, 1.5, 1.0)
within = threading.Event()

def begin_threads():
    within.set()
    for _ in range(2000):
        torch.ones(1 << 12).add_(1)

waiting._start_threads = begin_threads
waiting.share_the_cores()
within.wait()
"""


@pytest.mark.slow
def test_a_program_that_ends_while_threads_begin_ends_in_peace() -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", ENDING], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
