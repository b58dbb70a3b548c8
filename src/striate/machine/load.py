"""How busy the cores are with other processes.
How fast plain Python is here and now: what draws pictures and writes pages is neither measured nor planned.

`load` says how many cores others take, which decides the threads. It cannot say how long one thread takes then, nor
that a core is slow, or slower than a minute ago since its machine is shared.
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
_BUSY = 0.35  # cores: less is a mail program, or this measurement


@dataclass(frozen=True)
class Load:
    """`cores` that this process may use, and how many of them others took, 0 ≤ `taken` ≤ `cores`, measured over
    `seconds`."""

    cores: int
    taken: float
    seconds: float

    @property
    def busy(self) -> bool:
        """Whether others take so much that threads of ours would wait for a core."""
        return self.taken >= _BUSY

    @property
    def name(self) -> str:
        """`quiet`, or how many cores are taken, as `1 of 2 cores taken`."""
        return f"{max(1, round(self.taken))} of {several(self.cores, 'core')} taken" if self.busy else "quiet"


@dataclass(frozen=True)
class LoadMark:
    """A moment from which load is counted: processor seconds of everyone on our cores, and our own."""

    at: float
    everyone: float
    own: float


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
    """What others took since `begin`; waits until a tenth of a second has passed, less would be counted too coarsely.

    Children of this process are others, while they run, but for those of `multiprocessing`.
    """
    sleep(max(0.0, _SHORTEST - (monotonic() - begin.at)))
    end = mark()
    seconds = end.at - begin.at
    taken = ((end.everyone - begin.everyone) - (end.own - begin.own)) / seconds
    cores = len(own_cores())
    return Load(cores, min(max(0.0, taken), float(cores)), seconds)


def maybe_busy() -> bool:
    """Whether it is worth a tenth of a second to measure the load: the system's average of the last minute, in which
    this process counts too, leaves less than a third of our cores. True where the system keeps none."""
    if not hasattr(os, "getloadavg"):
        return True
    return os.getloadavg()[0] > 0.7 * len(own_cores())


def current_load(seconds: float = _SHORTEST) -> Load:
    """What others take now, in about `seconds`."""
    begin = mark()
    sleep(seconds)
    return load_since(begin)


def _busy_seconds(times: object) -> float:
    """Seconds in which a core computed; those that a host took from a virtual machine (`steal`) are taken too. Guests'
    are part of `user`."""
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    return sum(float(getattr(times, name, 0.0)) for name in names)


def _own_seconds() -> float:
    """Of this process, and of the one that draws for it."""
    times = os.times()
    seconds = times.user + times.system
    for child in multiprocessing.active_children():
        with suppress(psutil.Error):
            its = psutil.Process(child.pid).cpu_times()
            seconds += its.user + its.system
    return seconds


REFERENCE = 1.7e-4
"""Seconds of the work on a quiet core of 2.5 GHz (AMD EPYC, Python 3.11)."""


def python_slowdown(seconds: float = 0.1) -> float:
    """Wall-clock time of plain Python over about `seconds`, in that of a quiet core of 2.5 GHz: 1 on such a one, 2
    where another process or a neighbor on the same core takes half of it, below 1 on faster machines."""
    began, rounds = perf_counter(), 0
    while rounds == 0 or perf_counter() - began < seconds:
        _work()
        rounds += 1
    return (perf_counter() - began) / rounds / REFERENCE


def _work() -> dict[int, str]:
    """Texts and a dictionary, as drawing makes them."""
    made: dict[int, str] = {}
    for number in range(2000):
        made[number % 97] = f"{number}x"
    return made
