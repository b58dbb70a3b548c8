"""How long torch's threads wait on their cores for one another.

Between two parallel loops a thread of OpenMP (GNU's) waits for work by spinning, some milliseconds, before it sleeps.
On a quiet machine that is right: short waits made steps of a small network a tenth slower. Where other programs want
the cores it keeps them from the very thread that is waited for, and small networks became up to twenty times slower.

The length is read once, when torch is loaded. But GNU's OpenMP waits a thousandth as long whenever it manages more
threads than there are cores; so where others want the cores, a second team of threads is kept, which does nothing.
No result depends on any of this.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
from contextlib import closing, suppress

_EVERY = 1.0  # seconds between two looks at the load
_SOON = 0.25  # the same while threads wait shortly: a quiet machine is to be used at once
_WANTED = 0.7  # cores that others take, from which on short waits are the better ones


def share_the_cores() -> None:
    """Watch the load as long as this process lives, and wait shortly while others want the cores.

    For a program of its own; nothing where the environment says how long to wait (`GOMP_SPINCOUNT`,
    `OMP_WAIT_POLICY`).
    """
    if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        return
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(done,), name="striate-load", daemon=True)
    watch.start()
    # A thread that is within torch when Python ends is unwound through C++, which aborts the program.
    atexit.register(_end, done, watch)


def _end(done: threading.Event, watch: threading.Thread) -> None:
    done.set()
    watch.join()


class IdleTeam:
    """A second team of OpenMP's threads, while it is open: with it there are more threads than cores."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._release = threading.Event()

    @property
    def open(self) -> bool:
        """Whether there is one."""
        return self._thread is not None

    def set(self, wanted: bool) -> None:
        """Open it, or close it, as `wanted`; returns when it is so."""
        if wanted == self.open:
            return
        if self._thread is not None:
            self._release.set()
            self._thread.join()
            self._thread = None
            return
        ready, self._release = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=_keep_team, args=(ready, self._release), daemon=True)
        self._thread.start()
        ready.wait()

    def close(self) -> None:
        """Close it, where it is open."""
        self.set(False)


def _watch(done: threading.Event) -> None:
    team = IdleTeam()
    done.wait(_EVERY / 2)
    # Where nobody can say how busy the cores are (a sandbox without /proc, say), threads wait as OpenMP has it.
    with closing(team), suppress(Exception):
        from striate.machine.load import load_since, mark

        begin = mark()
        while not done.wait(min(_SOON, _EVERY) if team.open else _EVERY):
            load = load_since(begin)
            begin = mark()
            if "torch" in sys.modules and hasattr(sys.modules["torch"], "set_num_threads"):
                team.set(load.taken >= _WANTED)


def _keep_team(ready: threading.Event, release: threading.Event) -> None:
    try:
        with suppress(Exception):  # without the team: threads wait as OpenMP has it
            _start_threads()
    finally:
        ready.set()
    release.wait()


def _start_threads() -> None:
    """Share work among as many threads as there are cores, which from then on belong to the thread that calls.

    Not by `torch.set_num_threads`: that is also the number that threads started later begin with, and a run may be
    setting it at this moment.
    """
    import torch

    from striate.machine.load import own_cores

    torch.get_num_threads()  # torch sets OpenMP's number at its first call in a thread, this one
    openmp = ctypes.CDLL(torch._C.__file__)  # finds what torch was linked with
    openmp.omp_set_num_threads(max(2, len(own_cores())))
    torch.ones(1 << 20).add_(1)  # long enough to be shared among threads
