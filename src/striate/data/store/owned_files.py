"""Files in a folder that other users may write to: links and files of other users are refused."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from striate.errors import DataError, pasted

_DESCRIBED = hasattr(os, "O_DIRECTORY") and os.open in os.supports_dir_fd
"""Whether the system opens files relative to an open folder; Windows does not, and has no such links."""
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class OwnedFolder:
    """An open folder. Files are opened relative to it, even if another folder is moved to its `path` meanwhile."""

    path: Path
    descriptor: int | None

    def read(self, name: str) -> IO[bytes]:
        """Open a file for reading. Raises OSError; DataError for a link, and for a file of another user."""
        return _opened(self.path / name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0), "rb", self)

    def write(self, name: str) -> IO[bytes]:
        """Open a file for reading and writing; a new file is readable only by its owner.

        Raises OSError; DataError for a link, a file with a second name, and a file of another user.
        """
        return _opened(self.path / name, os.O_RDWR | os.O_CREAT, "r+b", self)

    def replace(self, name: str, content: bytes) -> None:
        """Replace the content of a file atomically, and sync it and the names in the folder to disk. Raises OSError or
        DataError."""
        with self.write(f"{name}.new") as file:
            file.truncate()
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if self.descriptor is None:
            (self.path / f"{name}.new").replace(self.path / name)
        else:
            os.replace(f"{name}.new", name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
            os.fsync(self.descriptor)

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        with suppress(FileNotFoundError):
            if self.descriptor is None:
                (self.path / name).unlink()
            else:
                os.unlink(name, dir_fd=self.descriptor)


@contextmanager
def open_owned_folder(path: Path, *, make: bool = False) -> Iterator[OwnedFolder]:
    """Open a folder of the current user while the context lasts; `make` creates it, for its owner only.

    Folders of root, and of the owner of the folder above, are trusted too, since they could replace it at any time.
    Raises OSError; DataError for a link, and for a folder of another user.
    """
    if make:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
    if not _DESCRIBED:
        yield OwnedFolder(path, None)
        return
    _refuse_link(path)  # for a clear message; the flag below is what protects
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK)
    try:
        _refuse_other_owner(path, os.fstat(descriptor), path.parent)
        yield OwnedFolder(path, descriptor)
    finally:
        os.close(descriptor)


def open_owned_file(path: Path) -> IO[bytes]:
    """`OwnedFolder.write` for a file by its path."""
    return _opened(path, os.O_RDWR | os.O_CREAT, "r+b")


def _opened(path: Path, flags: int, mode: str, folder: OwnedFolder | None = None) -> IO[bytes]:
    try:
        if folder is None or folder.descriptor is None:
            descriptor = os.open(path, flags | _NO_LINK, 0o600)
        else:
            descriptor = os.open(path.name, flags | _NO_LINK, 0o600, dir_fd=folder.descriptor)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _not_owned(path, "a link to another place") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _not_owned(path, "not a regular file")
        if flags & os.O_RDWR and status.st_nlink > 1:
            raise _not_owned(path, "a file that has another name too")
        _refuse_other_owner(path, status, path.parent if folder is None else path.parent.parent)
        return os.fdopen(descriptor, mode)
    except BaseException:
        os.close(descriptor)
        raise


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise _not_owned(path, "a link to another place")


def _refuse_other_owner(path: Path, status: os.stat_result, folder: Path) -> None:
    if hasattr(os, "geteuid") and status.st_uid not in (os.geteuid(), 0, folder.stat().st_uid):
        raise _not_owned(path, f"something of another user's (number {status.st_uid})")


def _not_owned(path: Path, what: str) -> DataError:
    return DataError(
        f"pack file {path}",
        what,
        "a file or folder that belongs to you, or none yet: other users can write into this folder",
        f"look at it: ls -ld {pasted(path)}; or use another folder: --data.packs FOLDER",
    )
