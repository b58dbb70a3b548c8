"""How long torch's threads wait on their cores for each other.

Between two parallel loops a thread of GNU's OpenMP waits for work by spinning, for some milliseconds, before it sleeps.
On an idle machine that is right: short waits made steps of a small network a tenth slower. Where other programs want
the cores, it keeps them from the thread that it waits for, and small networks became up to twenty times slower.

The length is read once, when torch is loaded. But GNU's OpenMP waits a thousandth as long while it manages more threads
than there are cores. So while others want the cores, a second, idle team of threads exists. No result depends on it.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import threading
from contextlib import closing, suppress

_EVERY = 1.0  # seconds between two measurements of the load
_SOON = 0.25  # the same while waits are short: an idle machine should be used at once
_WANTED = 0.7  # cores that others take: with more, short waits are better


def share_the_cores() -> None:
    """Watch the load while this process lives, and wait only shortly while others want the cores. For a program of its
    own; does nothing where the environment sets the wait (`GOMP_SPINCOUNT`, `OMP_WAIT_POLICY`)."""
    if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        return
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(done,), name="striate-load", daemon=True)
    watch.start()
    # A thread inside torch at the end of Python is unwound through C++, which aborts the program.
    atexit.register(_end, done, watch)


def _end(done: threading.Event, watch: threading.Thread) -> None:
    done.set()
    watch.join()


class IdleTeam:
    """A second team of OpenMP's threads while it is open: there are then more threads than cores."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._release = threading.Event()

    @property
    def open(self) -> bool:
        """Whether the team exists."""
        return self._thread is not None

    def set(self, wanted: bool) -> None:
        """Open or close it; returns when that is done."""
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
        """Close it, if it is open."""
        self.set(False)


def _watch(done: threading.Event) -> None:
    team = IdleTeam()
    done.wait(_EVERY / 2)
    # Where the load cannot be measured (a sandbox without /proc, say), threads wait as OpenMP does by default.
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
        with suppress(Exception):  # without the team, threads wait as OpenMP does by default
            _start_threads()
    finally:
        ready.set()
    release.wait()


def _start_threads() -> None:
    """Start a team with as many threads as there are cores, which then belongs to the calling thread. Not by
    `torch.set_num_threads`: that is also the number of threads of later threads, and a run may be setting it now."""
    import torch

    from striate.machine.load import own_cores

    torch.get_num_threads()  # the first call of torch in a thread sets OpenMP's number
    openmp = ctypes.CDLL(torch._C.__file__)  # the OpenMP that torch was linked with
    openmp.omp_set_num_threads(max(2, len(own_cores())))
    torch.ones(1 << 20).add_(1)  # large enough for several threads
