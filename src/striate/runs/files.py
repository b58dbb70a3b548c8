"""Writes files so that no reader ever sees half of one; and paths as users write them, with `~` for a home folder."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from striate.errors import RunError
from striate.runs.plain_files import Folder, folder_of, is_there, read_bytes, read_text

_REMEDIES = {
    errno.ENOSPC: "free some space, or give --out on another disk",
    errno.EDQUOT: "free some space, or give --out on another disk",
    errno.EFBIG: "raise the file size limit (ulimit -f unlimited), or give --out on another disk",
    errno.EIO: "the disk failed to read or write: check its messages (dmesg), or give --out on another disk",
    errno.EROFS: "make the disk writable, or give --out in a folder that can be written, for example --out /tmp/run",
    errno.EACCES: "make the folder writable, or give --out in one that you may write, for example --out /tmp/run",
    errno.EPERM: "make the folder writable, or give --out in one that you may write, for example --out /tmp/run",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ENOTDIR: "give --out as a path whose parents are folders",
}
TEMPORARY = ".*.tmp"
"""Pattern of the temporary files of `write_atomic`; a killed process may leave some."""


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError about `path` into a RunError with a remedy."""
    try:
        yield
    except OSError as error:
        raise RunError(
            str(path),
            f"cannot be used: {error.strerror or error}",
            "a writable folder with free space",
            _REMEDIES.get(error.errno or 0, "check the folder, or give another one with --out"),
        ) from error


@contextmanager
def explained_in_place() -> Iterator[None]:
    """Leave `--out` out of the remedy of a RunError: the files belong to an existing run."""
    try:
        yield
    except RunError as error:
        error.remedy = remedy_in_place(error.remedy)
        raise


def remedy_in_place(remedy: str) -> str:
    """The part of a remedy of `explained` that helps an existing run."""
    return remedy.partition(", or give ")[0]


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then flush it to disk and rename it.

    A reader sees the old file or the new one, also after a crash or a power cut. If `path` is a link, its target stays.
    Raises RunError.
    """
    with explained(path), temporary_file_for(path, write) as (folder, temporary):
        folder.rename(temporary, path.name)
        folder.flush()


@contextmanager
def temporary_file_for(path: Path, write: Callable[[BinaryIO], object]) -> Iterator[tuple[Folder, str]]:
    """The folder of `path`, and the name of a temporary file in it, filled by `write` and flushed to disk, for
    renaming; it is removed in the end."""
    temporary = f".{path.name}.{os.getpid()}.tmp"
    with folder_of(path, make=True) as folder:
        try:
            with folder.create(temporary) as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            yield folder, temporary
        finally:
            folder.remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_atomic(path, lambda file: file.write(text.encode()))


def append_text(path: Path, text: str) -> None:
    """Append complete lines, all or none: on a full disk nothing of them is left. They go in one write, or in several
    where the system takes only a part.

    Only one process may write (`striate.runs.lock`). Raises RunError.
    """
    content = memoryview(text.encode())
    with explained(path), folder_of(path) as folder:
        descriptor = folder.open(path.name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            before = os.fstat(descriptor).st_size
            try:
                while content:
                    content = content[os.write(descriptor, content) :]
            except OSError:
                os.ftruncate(descriptor, before)
                raise
        finally:
            os.close(descriptor)


def complete_lines(path: Path) -> list[str]:
    """The complete lines of a file that is being appended to; empty where there is no file. Raises RunError."""
    with explained(path):
        content = read_bytes(path) if is_there(path) else b""
    return content.decode(errors="replace").split("\n")[:-1]


def write_json(path: Path, value: Any) -> None:
    """Write `json_text` atomically."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Strict JSON: NaN and Inf become null, which every reader understands."""
    return json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def visible_json(text: str) -> str:
    """The JSON with characters that a terminal would obey as `\\u…`."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def read_optional_json(path: Path) -> Any:
    """The value of a JSON file that a run does not need: None where it is missing, damaged or unreadable. Raises
    RunError where it is not a plain file."""
    try:
        return json.loads(read_text(path))
    except RunError:
        raise
    except (OSError, ValueError, RecursionError):
        return None


def finite(value: Any) -> Any:
    """The value with NaN and Inf replaced by None."""
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, list | tuple) else value


def user_path(text: str) -> Path:
    """The path with `~` and `~name` replaced by home folders. Raises RunError for an unknown user."""
    path = Path(text.strip())
    try:
        return path.expanduser()
    except RuntimeError:
        name = path.parts[0]
        raise RunError(
            text[:80],
            f"{name}, but no user has that name",
            "the home folder of a user of this machine, or another path",
            f"write the path in full: {Path.cwd() / path} for a folder of that name here",
        ) from None
