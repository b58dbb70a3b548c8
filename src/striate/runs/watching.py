"""How a running training is watched: a request is one file in the run, and the training writes another.

Both have names of temporary files: they are not part of the run, losing them loses nothing, and the next process that
trains the run removes them.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from time import time
from typing import Any

from striate.errors import RunError
from striate.runs.directory import RunDirectory
from striate.runs.files import finite, read_optional_json
from striate.runs.plain_files import folder_of

_REQUEST, _SNAPSHOT = ".watched.tmp", ".look.tmp"
PATIENCE = 15.0
"""Seconds after which a request expires, unless it is repeated."""


def request_snapshots(run: RunDirectory) -> bool:
    """Request snapshots from the training of `run`, for some seconds; False where nothing can be written there."""
    try:
        with folder_of(run.path / _REQUEST) as folder:
            descriptor = folder.open(_REQUEST, os.O_WRONLY | os.O_CREAT)
        try:
            os.utime(descriptor if os.utime in os.supports_fd else run.path / _REQUEST)
        finally:
            os.close(descriptor)
    except (OSError, RunError):
        return False
    return True


def is_watched(run: RunDirectory) -> bool:
    """Whether somebody has requested snapshots in the last seconds."""
    try:
        return abs(time() - (run.path / _REQUEST).lstat().st_mtime) < PATIENCE
    except OSError:
        return False


def write_snapshot(run: RunDirectory, snapshot: dict[str, Any]) -> None:
    """Replace the snapshot at once, so that nobody reads half of one. Where it cannot be written nothing happens: the
    files that the run needs report a full disk."""
    temporary = f".look.{os.getpid()}.tmp"
    with suppress(OSError), folder_of(run.path / _SNAPSHOT) as folder:
        with folder.create(temporary) as file:
            file.write(json.dumps(finite(snapshot), allow_nan=False).encode())
        folder.rename(temporary, _SNAPSHOT)


def read_snapshot(run: RunDirectory) -> dict[str, Any] | None:
    """The newest snapshot; None where there is none."""
    snapshot = None
    with suppress(RunError):  # a file from elsewhere
        snapshot = read_optional_json(run.path / _SNAPSHOT)
    return snapshot if isinstance(snapshot, dict) else None
