"""A thread that writes while training continues, one job at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import thread_time

from striate.runs.checkpoint import Abandoned

_PATIENCE = 1.0  # seconds that `give_up` waits at most


class BackgroundWriter:
    """Runs jobs in a thread, one at a time. The next call of any method raises the error of a job."""

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self._job: Callable[[], None] | None = None
        self._given_up, self._idle = threading.Event(), threading.Event()
        self._idle.set()
        self.seconds = 0.0
        """Processor time of the last job."""

    @property
    def busy(self) -> bool:
        """Whether a job is running. Raises the error of the last one."""
        self._raise()
        return not self._idle.is_set()

    def submit(self, job: Callable[[], None]) -> None:
        """Begin a job, after the running one."""
        self.wait()
        self._idle.clear()
        self._job = job
        # A daemon: a thread that hangs on a dead disk must not keep the program from ending.
        threading.Thread(target=self._run, name="striate-saving", daemon=True).start()

    def wait(self) -> None:
        """Wait until no job is running; returns at once after `give_up`."""
        if not self._given_up.is_set():
            self._idle.wait()  # an interrupted join would take the thread for ended (Python 3.11)
            self._raise()

    def given_up(self) -> bool:
        """Whether the job should stop."""
        return self._given_up.is_set()

    def give_up(self) -> None:
        """Stop the job for good, within a second, and ignore its errors."""
        self._given_up.set()
        self._idle.wait(_PATIENCE)

    def _run(self) -> None:
        began = thread_time()
        try:
            assert self._job is not None
            self._job()
        except Abandoned:
            pass
        except BaseException as error:  # raised in the thread that waits
            self._error = error
        # Free tensors before `_idle` is set: nobody waits after that, and freeing them while the interpreter ends would
        # abort the program.
        self._job = None
        self.seconds = thread_time() - began
        self._idle.set()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
