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
# The last is what oneDNN says; of an operation that it does not have, it says "a primitive descriptor".
_WANT = re.compile(
    "not enough memory|can't allocate memory|cannot allocate memory|out of memory|std::bad_alloc"
    r"|could not create a (primitive|memory object)(?! desc)"
)


def peak_bytes() -> int:
    """The most memory that this process has occupied so far (high-water mark of the resident set).

    Memory that several processes share is counted in each of them.
    """
    # getrusage would also count the process that started this one, up to the moment of exec.
    for line in _lines(_STATUS):
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    return _usage_bytes()


@contextmanager
def only_new_garbage() -> Iterator[None]:
    """While it lasts, Python looks for garbage only among what is made meanwhile.

    To look through the three hundred thousand objects that torch and matplotlib consist of takes a tenth of a second,
    and a program that draws makes it happen several times. Where the program has frozen its objects itself, that stays.
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
    """Memory that can be had without swapping: of the machine, or of the control group (a container) where that
    allows less."""
    return min([int(psutil.virtual_memory().available), *_group_allowance()])


def total_bytes() -> int:
    """Memory of the machine, or of the control group where that allows less."""
    limit = _number(_GROUP / "memory.max")
    return min([int(psutil.virtual_memory().total), *([] if limit is None else [limit])])


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice: Python's, NumPy's, or one of torch's on any device."""
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        return True
    return isinstance(error, RuntimeError) and _WANT.search(str(error).lower()) is not None


def in_halves(samples: int, act: Callable[[int], T]) -> T:
    """What `act` gives for so many samples at once; where memory runs out, for half as many, and so on. Raises what it
    raises for one."""
    while True:
        try:
            return act(samples)
        except (MemoryError, RuntimeError) as error:
            if samples < 2 or not ran_out(error):
                raise
        samples //= 2  # out here nothing holds what the attempt had


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
