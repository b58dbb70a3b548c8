"""How much a single thread is held up by others on the same cores."""

from __future__ import annotations

from time import perf_counter, thread_time


def slowdown(seconds: float = 0.05) -> float:
    """Wall-clock time over computing time of this thread, at least 1, measured by computing for about `seconds`: 1
    where a core is free, 3 where two others share it."""
    began, computed = perf_counter(), thread_time()
    while thread_time() - computed < seconds and perf_counter() - began < 10 * seconds:
        sum(range(1000))
    used = thread_time() - computed
    return max(1.0, (perf_counter() - began) / used) if used > 0 else 1.0
