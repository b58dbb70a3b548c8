"""The training process of a lab: `striate train` as anybody could have typed it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

COMMAND = (sys.executable, "-m", "striate", "train")
_LINES = 12  # of what it says that are told
_BYTES = 100_000  # of what it says that are read


@dataclass(frozen=True)
class Ended:
    """How a training ended: its exit `code`, the `error` as a record where the request could not be carried out, and
    the last lines that it said."""

    code: int
    error: dict[str, Any] | None
    said: tuple[str, ...]


class TrainingProcess:
    """`striate train --json` with these arguments, which has begun; `run` is the directory that it writes.

    It is told to stop by a signal, as by Ctrl-C: it saves, and can be gone on with. Ctrl-C in the terminal of the lab
    does not reach it.
    """

    def __init__(self, arguments: Sequence[str], run: Path) -> None:
        self.run = run
        self.stopping = False
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 — closed with self
        for file in (self._out, self._err):
            weakref.finalize(self, file.close)
        self._process = subprocess.Popen(
            [*COMMAND, *arguments, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
            env=os.environ | {"NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
        )

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Ask it to save and end, once: a second signal would end it at once."""
        if not self.stopping and self.running:
            self.stopping = True
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within so many seconds."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def said(self) -> tuple[str, ...]:
        """The last lines that it said."""
        lines = _read(self._err).decode(errors="replace").splitlines()
        return tuple(line for line in lines if line.strip())[-_LINES:]

    def ended(self) -> Ended | None:
        """How it ended; None while it runs."""
        if self.running:
            return None
        error = None
        with suppress(ValueError):
            document = json.loads(_read(self._out) or b"{}")
            error = document.get("error") if isinstance(document, dict) else None
        return Ended(self._process.returncode, error if isinstance(error, dict) else None, self.said())


def _read(file: IO[bytes]) -> bytes:
    """The end of a file that a process is writing: without seeking, which would move where it writes."""
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), _BYTES, max(0, size - _BYTES))
