"""How the files of a run are opened. A run may come from someone else: no link in it is followed, nothing blocks, and
only plain files are read or written.

A file is opened relative to a handle of its folder, and checked again once it is open, so that it cannot be exchanged
between the check and the opening. Windows has no such handles; there it is only checked before.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from striate.errors import RunError, pasted
from striate.wording import several

FOLDERS = frozenset(("checkpoints", "plots", "predictions", "evaluations", "folds", "best"))
"""The folders of a run, a cross-validation and a sweep; links in their place are refused."""
MOST_BYTES = 1 << 30
"""Size of a file that is read into memory, at most."""
_HANDLES = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW") and hasattr(os, "O_DIRECTORY")
_CAREFUL = 0
for _flag in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT"):
    _CAREFUL |= getattr(os, _flag, 0)
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISREG, "a file"),
)


@dataclass(frozen=True)
class Folder:
    """A folder that is open: its files by name. `handle` is None where the system has no such handles."""

    path: Path
    handle: int | None

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        """The descriptor of a plain file. Raises OSError; RunError for anything else, and for a file with several hard
        links that is to be changed in place, since it may also belong to somebody else."""
        with suppress(FileNotFoundError):  # which only O_CREAT allows
            require_kind(self.path / name, self.status(name))
        descriptor = os.open(self._place(name), flags | _CAREFUL, 0o666, dir_fd=self.handle)
        try:
            status = os.fstat(descriptor)
            require_kind(self.path / name, status)
            if flags & (os.O_WRONLY | os.O_RDWR) and status.st_nlink > 1:
                file = self.path / name
                own = f"{file}.own"
                raise RunError(
                    str(file),
                    f"a file with {status.st_nlink} hard links, which would all change",
                    "a file with one name",
                    f"make it a separate file: cp {pasted(file)} {pasted(own)} && mv {pasted(own)} {pasted(file)}",
                )
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def create(self, name: str) -> BinaryIO:
        """A new file for writing, in place of an old one. Raises OSError."""
        self.remove(name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _CAREFUL
        return os.fdopen(os.open(self._place(name), flags, 0o666, dir_fd=self.handle), "w+b")

    def rename(self, name: str, to: str) -> None:
        """Rename a file, in place of an old one. Raises OSError."""
        os.replace(self._place(name), self._place(to), src_dir_fd=self.handle, dst_dir_fd=self.handle)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there. Raises OSError."""
        with suppress(FileNotFoundError):
            os.unlink(self._place(name), dir_fd=self.handle)

    def status(self, name: str) -> os.stat_result:
        """The status of a file without opening it; for a link, that of the link. Raises OSError."""
        return os.stat(self._place(name), dir_fd=self.handle, follow_symlinks=False)

    def flush(self) -> None:
        """Flush renames to disk. Does nothing where folders have no handles."""
        if self.handle is not None:
            os.fsync(self.handle)

    def _place(self, name: str) -> str:
        return name if self.handle is not None else str(self.path / name)


@contextmanager
def folder_of(path: Path, *, make: bool = False) -> Iterator[Folder]:
    """The folder of a file; `make` makes a missing folder of a run. Raises OSError where there is none; RunError where
    a folder of a run is something else."""
    if make and _is_of_a_run(path.parent) and not is_there(path.parent):
        make_folder(path.parent)
    handle = _entered(path.parent)
    try:
        yield Folder(path.parent, handle)
    finally:
        if handle is not None:
            os.close(handle)


def _entered(folder: Path) -> int | None:
    """A handle of a folder. Links are followed up to the run, as the user has typed them, but not inside it."""
    inner: list[Path] = []
    while _is_of_a_run(folder):
        inner.insert(0, folder)
        folder = folder.parent
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if _HANDLES else None
    for each in inner:
        try:
            status = os.stat(each.name if _HANDLES else each, dir_fd=handle, follow_symlinks=False)
            require_kind(each, status, folder=True)
            if handle is None:
                continue
            entered = os.open(each.name, os.O_RDONLY | os.O_DIRECTORY | _CAREFUL, dir_fd=handle)
        except BaseException:
            if handle is not None:
                os.close(handle)
            raise
        os.close(handle)
        handle = entered
    return handle


def _is_of_a_run(folder: Path) -> bool:
    return folder.name in FOLDERS and any(is_there(folder.parent / name) for name in ("config.yaml", "study.yaml"))


def require_kind(path: Path, status: os.stat_result, *, folder: bool = False) -> None:
    """Raise RunError, naming what it is, where `status` is not of a plain file, or of a `folder`."""
    if stat.S_ISDIR(status.st_mode) if folder else stat.S_ISREG(status.st_mode):
        return
    got = next((kind for is_kind, kind in _KINDS if is_kind(status.st_mode)), "a device")
    raise RunError(
        str(path),
        f"{got}, which is not followed, since runs may come from others" if got == "a link" else got,
        "a folder of the run itself" if folder else "a plain file, as striate writes it",
        f"rename it: mv {pasted(path)} {pasted(f'{path}.aside')}",
    )


def open_plain(path: Path) -> BufferedReader:
    """A plain file, to be read. Raises OSError; RunError for a link, a pipe or anything else."""
    with folder_of(path) as folder:
        return os.fdopen(folder.open(path.name), "rb")


def open_for_update(path: Path) -> BinaryIO:
    """A plain file, to be read and changed. Raises OSError; RunError for anything else, and for a file with several
    hard links."""
    with folder_of(path) as folder:
        return os.fdopen(folder.open(path.name, os.O_RDWR), "r+b")


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a plain file. Raises OSError; RunError for anything else, and for more than `most` bytes."""
    with open_plain(path) as file:
        content = b"" if (size := os.fstat(file.fileno()).st_size) > most else file.read(most + 1)
    if (size := max(size, len(content))) > most:
        aside = f"rename it: mv {pasted(path)} {pasted(f'{path}.aside')}"
        raise RunError(
            str(path), f"a file of {several(size, 'byte')}", f"at most {most:,}, since it is read into memory", aside
        )
    return content


def read_text(path: Path) -> str:
    """The UTF-8 text of a plain file, with its line ends as they are. Raises OSError, UnicodeDecodeError; RunError."""
    return read_bytes(path).decode("utf-8")


def is_there(path: Path) -> bool:
    """Whether anything is there, also what is not a plain file; opening it then raises."""
    return os.path.lexists(path)


def make_folder(path: Path) -> None:
    """Make a folder of a run, if it does not exist. Raises OSError; RunError where something else is there."""
    with folder_of(path) as parent, suppress(FileExistsError):
        os.mkdir(path.name if parent.handle is not None else path, dir_fd=parent.handle)
    with folder_of(path / "file"):
        pass


def typed(path: Path) -> Path:
    """The file that the user has typed; if it is a link, its target. A link inside a run stays a link, and is
    refused."""
    return Path(os.path.realpath(path)) if path.is_symlink() and not _is_of_a_run(path.parent) else path
