"""How busy the cores are with other processes, and how fast plain Python runs here and now.

The load says how many cores others take, which decides the number of threads. It does not say how slow one thread then
is, or that a core is slow because other virtual machines share it. The time of drawing and writing pages follows from
the speed of Python.
"""

from __future__ import annotations

import multiprocessing
import os
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, perf_counter, sleep

import psutil

from striate.wording import several

_SHORTEST = 0.1  # seconds: the kernel counts in hundredths
_BUSY = 0.35  # cores: less is background noise, or this measurement


@dataclass(frozen=True)
class Load:
    """How busy the cores are with other processes."""

    cores: int
    """Cores that this process may use."""
    taken: float
    """Cores that others took, 0 to `cores`."""
    seconds: float
    """Seconds over which this was measured."""

    @property
    def busy(self) -> bool:
        """Whether others take so much that our threads would wait for a core."""
        return self.taken >= _BUSY

    @property
    def name(self) -> str:
        """`quiet`, or the cores that are taken: `1 of 2 cores taken`."""
        return f"{max(1, round(self.taken))} of {several(self.cores, 'core')} taken" if self.busy else "quiet"


@dataclass(frozen=True)
class LoadMark:
    """A moment from which load is counted."""

    at: float
    """The time in seconds."""
    everyone: float
    """Processor seconds of all processes on our cores."""
    own: float
    """Processor seconds of this process."""


def own_cores() -> tuple[int, ...]:
    """The numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def mark() -> LoadMark:
    """Begin to count."""
    per_core = psutil.cpu_times(percpu=True)
    cores = [per_core[number] for number in own_cores() if number < len(per_core)]
    return LoadMark(monotonic(), sum(map(_busy_seconds, cores)), _own_seconds())


def load_since(begin: LoadMark) -> Load:
    """The load since `begin`. Waits until a tenth of a second has passed, since less is counted too coarsely. Child
    processes count as others while they run, except those of `multiprocessing`."""
    sleep(max(0.0, _SHORTEST - (monotonic() - begin.at)))
    end = mark()
    seconds = end.at - begin.at
    taken = ((end.everyone - begin.everyone) - (end.own - begin.own)) / seconds
    cores = len(own_cores())
    return Load(cores, min(max(0.0, taken), float(cores)), seconds)


def maybe_busy() -> bool:
    """Whether measuring the load is worth a tenth of a second: the system's average of the last minute, which includes
    this process, leaves less than a third of our cores. True where the system has no such average."""
    if not hasattr(os, "getloadavg"):
        return True
    return os.getloadavg()[0] > 0.7 * len(own_cores())


def current_load(seconds: float = _SHORTEST) -> Load:
    """The load now, measured in about `seconds`."""
    begin = mark()
    sleep(seconds)
    return load_since(begin)


def _busy_seconds(times: object) -> float:
    """Seconds in which a core was busy, including those that the host took from a virtual machine (`steal`). Those of
    guests are part of `user`."""
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(float(getattr(times, name, 0.0)) for name in names)


def _own_seconds() -> float:
    """Processor seconds of this process, and of its drawing process."""
    times = os.times()
    seconds = times.user + times.system
    for child in multiprocessing.active_children():
        with suppress(psutil.Error):
            its = psutil.Process(child.pid).cpu_times()
            seconds += its.user + its.system
    return seconds


REFERENCE = 1.7e-4
"""Seconds of `_work` on an idle core of 2.5 GHz (AMD EPYC, Python 3.11)."""


def python_slowdown(seconds: float = 0.1) -> float:
    """Time of plain Python, measured over about `seconds`, relative to an idle core of 2.5 GHz: 2 where another process
    takes half of the core, below 1 on faster machines."""
    began, rounds = perf_counter(), 0
    while rounds == 0 or perf_counter() - began < seconds:
        _work()
        rounds += 1
    return (perf_counter() - began) / rounds / REFERENCE


def _work() -> dict[int, str]:
    """Texts and a dictionary, similar to drawing."""
    made: dict[int, str] = {}
    for number in range(2000):
        made[number % 97] = f"{number}x"
    return made
