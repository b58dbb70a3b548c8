"""How a run is watched while it trains: who watches asks for it by a file, and the training leaves another.

Both names are those of temporary files: they are not part of the run, nothing is lost with them, and whoever trains it
next clears them away.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from time import time
from typing import Any

from striate.errors import RunError
from striate.runs.directory import RunDirectory
from striate.runs.files import finite, read_dispensable
from striate.runs.plain_files import folder_of

_ASKED, _LOOK = ".watched.tmp", ".look.tmp"
PATIENCE = 15.0
"""Seconds after which a request is over, unless it is made again."""


def ask_to_watch(run: RunDirectory) -> bool:
    """Ask the training of `run` for looks, for some seconds; False where nothing can be written there."""
    try:
        with folder_of(run.path / _ASKED) as folder:
            descriptor = folder.open(_ASKED, os.O_WRONLY | os.O_CREAT)
        try:
            os.utime(descriptor if os.utime in os.supports_fd else run.path / _ASKED)
        finally:
            os.close(descriptor)
    except (OSError, RunError):
        return False
    return True


def is_watched(run: RunDirectory) -> bool:
    """Whether somebody has requested snapshots in the last seconds."""
    try:
        return abs(time() - (run.path / _ASKED).lstat().st_mtime) < PATIENCE
    except OSError:
        return False


def write_look(run: RunDirectory, look: dict[str, Any]) -> None:
    """Leave what was seen; the look before is replaced at once, and nobody sees half of one. What cannot be written is
    left out: a full disk is met, and told, by what the run needs."""
    temporary = f".look.{os.getpid()}.tmp"
    with suppress(OSError), folder_of(run.path / _LOOK) as folder:
        with folder.create(temporary) as file:
            file.write(json.dumps(finite(look), allow_nan=False).encode())
        folder.rename(temporary, _LOOK)


def read_look(run: RunDirectory) -> dict[str, Any] | None:
    """What was seen last; None where nothing was."""
    look = None
    with suppress(RunError):  # put there by somebody else
        look = read_dispensable(run.path / _LOOK)
    return look if isinstance(look, dict) else None
