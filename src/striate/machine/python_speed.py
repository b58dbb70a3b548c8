"""How fast plain Python is here and now: what draws pictures and writes pages is neither measured nor planned.

`load` says how many cores others take, which decides the threads. It cannot say how long one thread takes then, nor
that a core is slow, or slower than a minute ago since its machine is shared.
"""

from __future__ import annotations

from time import perf_counter

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
