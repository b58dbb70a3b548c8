"""Writing a folder atomically: it is complete, or does not exist."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from striate.errors import UsageError, pasted


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary path beside `out` for a folder, which becomes `out` at the end; after an error it is removed. Folders
    above it are made. Raises UsageError if `out` is not empty, or cannot be written."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        other = out.with_name(f"{out.name}-2")
        raise UsageError("--out", f"{out}, which exists already", "a new or empty folder", f"--out {pasted(other)}")
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with suppress(FileNotFoundError):
            out.rmdir()
        part.rename(out)
    except OSError as error:
        got = error.strerror or str(error)
        raise UsageError(f"--out {out}", got, "a folder that can be written", "give another folder") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
