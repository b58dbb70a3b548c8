"""One thread that writes while the training goes on, one thing at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import thread_time

from striate.runs.checkpoint import Abandoned

_PATIENCE = 1.0  # seconds that giving up may take


class BackgroundWriter:
    """Runs the job that it is given in a thread. An error of the job is raised by the next call of any method."""

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self._job: Callable[[], None] | None = None
        self._given_up, self._idle = threading.Event(), threading.Event()
        self._idle.set()
        self.seconds = 0.0
        """Processor time of the last job."""

    @property
    def busy(self) -> bool:
        """Whether a job is running. Raises the error of the one before."""
        self._raise()
        return not self._idle.is_set()

    def submit(self, job: Callable[[], None]) -> None:
        """Begin a job, after the one that runs."""
        self.wait()
        self._idle.clear()
        self._job = job
        # A daemon, since one that hangs on a dead disk must not keep a program that was told to end.
        threading.Thread(target=self._run, name="striate-saving", daemon=True).start()

    def wait(self) -> None:
        """Until nothing is running. Nothing is waited for after `give_up`."""
        if not self._given_up.is_set():
            self._idle.wait()  # a join that a signal interrupts would hold the thread for ended (Python 3.11)
            self._raise()

    def given_up(self) -> bool:
        """Whether the job shall stop where it is."""
        return self._given_up.is_set()

    def give_up(self) -> None:
        """Stop what is running, in a second at most, and say nothing of its errors. For good."""
        self._given_up.set()
        self._idle.wait(_PATIENCE)

    def _run(self) -> None:
        began = thread_time()
        try:
            assert self._job is not None
            self._job()
        except Abandoned:
            pass
        except BaseException as error:  # handed on to the thread that waits for it
            self._error = error
        # Nobody waits for what comes after `_idle`: tensors freed there could meet the end of the interpreter, which
        # aborts the program.
        self._job = None
        self.seconds = thread_time() - began
        self._idle.set()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error
