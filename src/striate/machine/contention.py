"""How much a single thread is held up by others on the same cores.

`load` counts cores, of which others can take no more than there are: it decides how many threads to use. It cannot say
how long one thread takes then, which depends on how many others wait for the same core.
"""

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
