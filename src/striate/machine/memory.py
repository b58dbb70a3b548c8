"""Memory of this process and of the machine, in bytes."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")

_STATUS = Path("/proc/self/status")
_GROUP = Path("/sys/fs/cgroup")
# The last is oneDNN's message; for an operation that it lacks, it says "a primitive descriptor".
_WANT = re.compile(
    "not enough memory|can't allocate memory|cannot allocate memory|out of memory|std::bad_alloc"
    r"|could not create a (primitive|memory object)(?! desc)"
)


def peak_bytes() -> int:
    """The peak of the resident set of this process so far. Memory shared by several processes counts in each."""
    # getrusage would also count the process that started this one, up to the moment of exec.
    for line in _lines(_STATUS):
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    return _usage_bytes()


@contextmanager
def only_new_garbage() -> Iterator[None]:
    """While open, Python collects garbage only among new objects.

    Scanning the three hundred thousand objects of torch and matplotlib takes a tenth of a second, several times in a
    program that draws. Where the program has frozen its objects itself, nothing changes.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def available_bytes() -> int:
    """Memory that is available without swapping: of the machine, or of the control group (a container) where that
    allows less."""
    return min([int(psutil.virtual_memory().available), *_group_allowance()])


def total_bytes() -> int:
    """Memory of the machine, or of the control group where that allows less."""
    limit = _number(_GROUP / "memory.max")
    return min([int(psutil.virtual_memory().total), *([] if limit is None else [limit])])


def ran_out(error: BaseException) -> bool:
    """Whether an error means that memory ran out: Python's, NumPy's, or torch's on any device."""
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        return True
    return isinstance(error, RuntimeError) and _WANT.search(str(error).lower()) is not None


def in_halves(samples: int, act: Callable[[int], T]) -> T:
    """The result of `act` for `samples` samples at once; where memory runs out, for half as many, and so on. Raises
    what `act` raises for one sample."""
    while True:
        try:
            return act(samples)
        except (MemoryError, RuntimeError) as error:
            if samples < 2 or not ran_out(error):
                raise
        samples //= 2  # outside of `except`, which would keep the memory of the attempt alive


def _group_allowance() -> list[int]:
    limit, used = _number(_GROUP / "memory.max"), _number(_GROUP / "memory.current")
    return [] if limit is None or used is None else [max(0, limit - used)]


def _number(file: Path) -> int | None:
    lines = _lines(file)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def _usage_bytes() -> int:
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
