"""A run belongs to one process at a time: a lock that the system takes back when its owner dies, however it dies."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from time import sleep
from typing import Any

from striate.errors import RunError, pasted
from striate.runs.directory import LOCK, refuse_strange
from striate.runs.files import TEMPORARY, explained
from striate.runs.plain_files import folder_of

fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None  # Windows has none
_NO_LOCKS = "{}: no file locks here ({}): make sure that only one process trains this run"
_TRIES, _LOOK = 10, 0.01
"""How often a lock is tried, and the seconds between: who looks for the owner has it for an instant (`owner`)."""
_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def owned(path: Path, announce: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Be the only process that writes to the run directory `path` while open, and clear what a killed one has left.

    The lock is on a file inside, which stays and names the process; it is the open file that is locked, so the lock
    dies with its owner, and moves with the directory. `announce` is told where the system has no locks. Raises RunError
    when another process, or another training of this one, has it; and when the directory is no longer there.
    """
    descriptor = _opened(path)

    def refused(process: str) -> RunError:
        remedy = f"wait for it, or end it first; then: striate train --resume {pasted(path)}"
        return RunError(str(path), f"a run that {process} is training", "one process at a time", remedy)

    try:
        _take(descriptor, path, refused, announce)
        with explained(path):
            refuse_strange(path)
            for left in path.rglob(TEMPORARY):
                if not left.is_dir() or left.is_symlink():  # folders are those of exports, which clear them
                    left.unlink(missing_ok=True)
        yield
    except (OSError, RunError):
        _refuse_gone(descriptor, path)
        raise
    finally:
        os.close(descriptor)


@contextmanager
def owned_file(path: Path, refused: Callable[[str], RunError]) -> Iterator[None]:
    """Be the only process that has the lock on the file `path` while open; it is created if need be. Raises what
    `refused` makes of the name of the process that has it; RunError where it cannot be written."""
    with explained(path), folder_of(path) as folder:
        descriptor = folder.open(path.name, os.O_RDWR | os.O_CREAT)
    try:
        _take(descriptor, path, refused)
        yield
    finally:
        os.close(descriptor)


def owner(path: Path) -> str | None:
    """The process that trains the run at `path` now, as `process 123 on host`; None where none does, or nobody can
    tell."""
    try:
        with folder_of(path / LOCK) as folder:
            descriptor = folder.open(LOCK)
    except (OSError, RunError):
        return None
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _named(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


def _opened(path: Path) -> int:
    try:
        with folder_of(path / LOCK) as folder:
            return folder.open(LOCK, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        copied = f"cp -r {pasted(path)} NEW_PLACE && striate train --resume NEW_PLACE"
        got = f"a run directory that cannot be written: {error.strerror or error}"
        raise RunError(str(path), got, "a writable run directory", copied) from None


def _take(
    descriptor: int,
    path: Path,
    refused: Callable[[str], RunError],
    announce: Callable[[str], None] = lambda _: None,
) -> None:
    if fcntl is None:
        announce(_NO_LOCKS.format(path, "Windows"))
        return
    try:
        _lock(descriptor)
    except BlockingIOError:
        raise refused(_named(descriptor)) from None
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        announce(_NO_LOCKS.format(path, error.strerror))
        return
    with explained(path):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _lock(descriptor: int) -> None:
    """Raises BlockingIOError where another has it for longer than a look."""
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not left:
                raise
            sleep(_LOOK)


def _refuse_gone(descriptor: int, path: Path) -> None:
    """Raise RunError where the locked file is no longer the one in `path`."""
    try:
        found = (path / LOCK).stat()
    except OSError:
        found = None
    if found is not None and os.path.samestat(found, os.fstat(descriptor)):
        return
    if found is None and (path / "config.yaml").exists():
        return  # only the locked file is gone
    if os.fstat(descriptor).st_nlink:
        got, remedy = "moved", "continue it where it is now: striate train --resume NEW_PLACE"
    else:
        got, remedy = "deleted", "train again; with another --out if something clears this folder"
    expected = "the run directory where it was, until the training is over"
    raise RunError(str(path), f"a run directory that was {got} while it was trained", expected, remedy) from None


def _named(descriptor: int) -> str:
    words = os.pread(descriptor, 200, 0).decode(errors="replace").split("\n")[0]
    return words or "another process"
