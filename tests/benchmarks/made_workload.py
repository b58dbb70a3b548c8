"""Contenders whose figures are known beforehand."""

from __future__ import annotations

import time
from typing import Any


def steady(gate: Any, samples: int, seconds: float) -> None:
    """So many samples in so many seconds, as it says itself."""
    gate.say(precision="bf16", plan="none")
    print("what a library prints must not disturb")
    while True:
        gate.begin()
        gate.end(samples, seconds, loss=0.5)


def clocked(gate: Any) -> None:
    """Timed by the gate."""
    while True:
        gate.begin()
        time.sleep(0.01)
        gate.end(100)


def ordered(gate: Any, file: str, name: str) -> None:
    """Writes its name at each turn."""
    while True:
        gate.begin()
        with open(file, "a") as log:  # noqa: PTH123
            log.write(name)
        gate.end(1, 1.0)


def not_installed(gate: Any) -> None:
    """Needs what nobody has."""
    import surely_not_installed  # noqa: F401


def failing(gate: Any) -> None:
    """Fails at its second turn."""
    gate.begin()
    gate.end(1, 1.0)
    gate.begin()
    raise ValueError("a reason")


def dying(gate: Any) -> None:
    """Ends without a word."""
    import os

    gate.begin()
    os._exit(3)


def hanging(gate: Any) -> None:
    """Never answers."""
    gate.begin()
    time.sleep(60)


def returning(gate: Any) -> None:
    """Forgets to wait for its next turn."""


def environment(gate: Any) -> None:
    """Says what it was given."""
    import os

    while True:
        gate.begin()
        gate.end(1, 1.0, spin=os.environ.get("GOMP_SPINCOUNT"), made=os.environ.get("MADE"))


def with_a_child(gate: Any) -> None:
    """Keeps memory in a process of its own."""
    import subprocess
    import sys

    gate.begin()
    held = "x = bytearray(b'1') * (64 * 2**20); import time; print(1, flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", held], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(1.2)
    gate.end(1, 1.0, child=child.pid)
    gate.begin()
