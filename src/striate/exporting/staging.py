"""Files that are written in a temporary folder and then moved to their place, so that no incomplete file is ever
there."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from striate.errors import StriateError
from striate.runs.files import explained
from striate.runs.lock import fcntl

_NO_ROOM = 1 << 20
"""A disk with fewer free bytes counts as full."""
_PREFIX, _SUFFIX = ".striate-export.", ".tmp"


@contextmanager
def staged(place: Path) -> Iterator[Path]:
    """A path of the same name in a hidden folder beside `place`; the folder is removed in the end. A process that is
    killed leaves only that folder, which a later call removes."""
    with explained(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        _clear_left(place.parent)
        folder, held = _locked_folder(place.parent)
    try:
        with explained(place):
            (folder / "fp32").mkdir()
            yield folder / "fp32" / place.name
    except StriateError:
        raise
    except Exception as error:  # runtimes raise various errors for a full disk
        if shutil.disk_usage(folder).free >= _NO_ROOM:
            raise
        with explained(place):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)


def _locked_folder(parent: Path) -> tuple[Path, int | None]:
    """A new hidden folder, and the open lock on it, which shows that its process lives; None where there are no
    locks."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, suffix=_SUFFIX, dir=parent))
        held = _locked(folder)
        if held is None or folder.exists():  # until it is locked, another process may clear it
            return folder, held
        os.close(held)


def _clear_left(parent: Path) -> None:
    """Remove the folders of killed processes, which are no longer locked."""
    for left in parent.glob(f"{_PREFIX}*{_SUFFIX}"):
        held = _locked(left, wait=False)
        if held is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(held)


def _locked(folder: Path, *, wait: bool = True) -> int | None:
    """An open lock on the folder, which the system releases when the process ends in any way; None if another process
    has it, or the system has no such locks."""
    if fcntl is None:
        return None
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor


def publish(temporary: Path, place: Path) -> None:
    """Flush the file to the disk, and move it to its place."""
    with explained(place):
        files = [path for path in temporary.parent.rglob("*") if path.is_file()]
        for path in files:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        for path in sorted(temporary.parent.iterdir(), key=lambda path: path == temporary):
            path.rename(place.with_name(path.name))
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
