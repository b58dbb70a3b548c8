"""A second process that loads what drawing needs while this one trains, and draws while it measures.

Only in a program (`allow_second`). `begin_second` forks after loading what both processes need, and before any
computation, since a fork has none of torch's threads. Without a second process, as in a notebook, `later` calls the
function at once in this process; so it does with what cannot be sent, and where the second process fails or has ended.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from typing import Any, Generic, TypeVar

from striate.loading import without_collecting

Result = TypeVar("Result")

MOST_SENT = 1 << 26
"""Bytes of arrays that are sent at most: sending more takes longer than drawing here."""

_SECOND: list[ProcessPoolExecutor] = []
_ALLOWED: list[bool] = []


class Later(Generic[Result]):
    """The future result of `function(*arguments)`."""

    def __init__(self, function: Callable[..., Result], arguments: Sequence[Any], sent: Future[bytes] | None) -> None:
        self._function, self._arguments, self._sent = function, arguments, sent
        self._found = None if sent is not None else function(*arguments)

    def result(self) -> Result:
        """Wait for the result. Raises what the function raises."""
        if self._sent is not None:
            # Where it fails, it is repeated here, with a proper traceback.
            try:
                self._found = pickle.loads(self._sent.result())
            except Exception:
                self._found = self._function(*self._arguments)
            self._sent = None
        found: Any = self._found
        return found  # type: ignore[no-any-return]


def allow_second() -> None:
    """Declare this process a program, which may start a second process."""
    _ALLOWED.append(True)


def is_program() -> bool:
    """Whether this process is a program, which may start a second one."""
    return bool(_ALLOWED)


def begin_second(prepare: Callable[[], object]) -> None:
    """Fork, and call `prepare` in the second process. Does nothing on one core, in one of several processes of a
    training, and outside Linux, where forking is not safe."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    if not _ALLOWED or _SECOND or cores < 2 or "WORLD_SIZE" in os.environ:
        return
    gc.freeze()  # keeps the shared memory pages unwritten
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("fork"), _prepare, (prepare,))
    pool.submit(_nothing)  # forks now
    _SECOND.append(pool)


def end_second() -> None:
    """End the second process at once."""
    while _SECOND:
        for process in multiprocessing.active_children():
            process.kill()
        _SECOND.pop().shutdown(wait=False, cancel_futures=True)
    for thread in threading.enumerate():  # Python may crash at exit while one is ending
        if type(thread).__name__ == "_ExecutorManagerThread":
            thread.join(1.0)


def later(function: Callable[..., Result], *arguments: Any) -> Later[Result]:
    """`function(*arguments)`, in the second process if there is one."""
    sent = None
    if _SECOND:
        arrays: list[pickle.PickleBuffer] = []
        with suppress(Exception):  # a task or network from the user's file cannot be pickled
            named = pickle.dumps((function, arguments), protocol=5, buffer_callback=arrays.append)
            if len(named) + sum(part.raw().nbytes for part in arrays) <= MOST_SENT:
                sent = _SECOND[0].submit(_done, named, [part.raw().tobytes() for part in arrays])
    return Later(function, arguments, sent)


def _done(named: bytes, arrays: Sequence[bytes]) -> bytes:
    # bytearray, since torch warns of read-only arrays made from bytes.
    function, arguments = pickle.loads(named, buffers=map(bytearray, arrays))
    return pickle.dumps(function(*arguments))


def _nothing() -> None:
    pass


def begin_forked() -> None:
    """Set up a forked process: it ignores SIGINT, ends with its parent, and lets torch compute in one thread, since a
    fork has none of its threads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(1)


def _prepare(prepare: Callable[[], object]) -> None:
    with suppress(Exception):  # a failing import is reported where it is needed
        begin_forked()
        with without_collecting():
            prepare()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)
