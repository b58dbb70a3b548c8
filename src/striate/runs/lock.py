"""A run belongs to one process at a time, by a lock that the system releases when the process ends, however it ends."""

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
from striate.runs.directory import LOCK, refuse_unexpected_files
from striate.runs.files import TEMPORARY, explained
from striate.runs.plain_files import folder_of

fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None  # Windows has none
_NO_LOCKS = "{}: no file locks here ({}): make sure that only one process trains this run"
_TRIES, _LOOK = 10, 0.01
"""How often a lock is tried, and the seconds between: `owner` holds it for an instant."""
_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def owned(path: Path, announce: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Own the run directory `path` while open, as the only process that writes to it, and remove what a killed one has
    left.

    The lock is on a file inside, which stays and names the process. The open file is locked, so the lock ends with its
    owner, and moves with the directory. `announce` gets a line where the system has no locks. Raises RunError where
    another process, or another training of this one, owns the run; and where the directory has disappeared.
    """
    descriptor = _opened(path)

    def refused(process: str) -> RunError:
        remedy = f"wait for it, or end it first; then: striate train --resume {pasted(path)}"
        return RunError(str(path), f"a run that {process} is training", "one process at a time", remedy)

    try:
        _take(descriptor, path, refused, announce)
        with explained(path):
            refuse_unexpected_files(path)
            for left in path.rglob(TEMPORARY):
                if not left.is_dir() or left.is_symlink():  # exports clear their own folders
                    left.unlink(missing_ok=True)
        yield
    except (OSError, RunError):
        _refuse_gone(descriptor, path)
        raise
    finally:
        os.close(descriptor)


@contextmanager
def owned_file(path: Path, refused: Callable[[str], RunError]) -> Iterator[None]:
    """Hold the lock on the file `path` while open; the file is created if needed. Where another process holds it,
    raises what `refused` makes of the name of that process; RunError where the file cannot be written."""
    with explained(path), folder_of(path) as folder:
        descriptor = folder.open(path.name, os.O_RDWR | os.O_CREAT)
    try:
        _take(descriptor, path, refused)
        yield
    finally:
        os.close(descriptor)


def owner(path: Path) -> str | None:
    """The process that trains the run at `path` now, as `process 123 on host`; None where none does, or it is
    unknown."""
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
    """Raises BlockingIOError where another process holds the lock for more than an instant."""
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not left:
                raise
            sleep(_LOOK)


def _refuse_gone(descriptor: int, path: Path) -> None:
    """Raise RunError where the locked file is no longer in `path`."""
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
