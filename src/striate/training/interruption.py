"""Ctrl-C and SIGTERM, handled between two steps so that the saved state is complete."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from striate.runs.directory import RunDirectory
from striate.runs.plain_files import is_there
from striate.training.code_fields import how_to_resume
from striate.training.config import Config


class Interrupted(KeyboardInterrupt):
    """The run at `path` was interrupted. Its state is saved; where it ended `at_once`, the last checkpoint before
    stays, if there was one. The message has the command or call that resumes it bit for bit (`how_to_resume`)."""

    def __init__(self, path: Path, config: Config, signal_name: str = "interrupted", *, at_once: bool = False) -> None:
        self.path, self.signal_name = path, signal_name
        run, kept = RunDirectory(path), "there was no checkpoint yet"
        if is_there(run.last) or is_there(run.folds):
            kept = "the last checkpoint is intact" if at_once else "checkpoint saved"
        kept = f"stopped at once; {kept}" if at_once else kept
        super().__init__(f"{signal_name}: {kept} in {path}; resume with: {how_to_resume(path, config)}")


@dataclass
class Interruption:
    """Whether training was asked to stop."""

    signal_name: str | None = None
    """The signal, once the user (SIGINT) or the system (SIGTERM) has sent one. None: continue."""


@contextmanager
def watch_signals(*, quiet: bool = False) -> Iterator[Interruption]:
    """Note the first signal instead of ending in the middle of a step; a second one ends the program at once. Prints a
    line about it unless `quiet`. Does nothing outside the main thread, where Python allows no signal handlers."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def note(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        interruption.signal_name = signal.Signals(number).name
        if not quiet:
            again = "Ctrl-C again" if number == signal.SIGINT else f"another {interruption.signal_name}"
            text = f"\nstopping after this step to save a checkpoint; {again} stops at once without saving\n"
            os.write(2, text.encode())

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def terminating_interrupts() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as SIGINT does, so that both end a program in the same way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
