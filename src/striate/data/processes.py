"""A function over many items, in order, in forked processes: what Python does in one does not wait for the others."""

from __future__ import annotations

import math
import mmap
import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from striate.machine.load import own_cores
from striate.machine.second_process import begin_forked, is_program

Item = TypeVar("Item")
Result = TypeVar("Result")

WORTH = 2.0
"""Seconds of work, as one thread would do it, for which processes are begun: on two cores they read CIFAR-10 from its
archive in 4.8 s instead of 5.9, and on many threads soon wait for each other alone."""
_PART = 0.05  # seconds of what is sent at once
_MOST = 512  # items of it
_FUNCTION: list[Callable[[Any], Any]] = []


def may_fork() -> bool:
    """Whether this process may begin others that share its memory: a program of its own, alone, on Linux, with two
    cores or more, before a GPU is used; and not while it serves others in threads."""
    if threading.current_thread() is not threading.main_thread():
        return False
    if sys.platform != "linux" or not is_program() or "WORLD_SIZE" in os.environ or len(own_cores()) < 2:
        return False
    torch = sys.modules.get("torch")
    return torch is None or not torch.cuda.is_initialized()


def shared_empty(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An array that forked processes write into: what they have written is here."""
    count = math.prod(shape)
    memory = mmap.mmap(-1, max(1, count * np.dtype(dtype).itemsize))
    return np.frombuffer(memory, dtype, count).reshape(shape)


def map_in_processes(
    function: Callable[[Item], Result], items: Iterator[Item], each: float
) -> Generator[Result, None, None]:
    """The results in the order of the items, each of which takes about `each` seconds, in a process a core.

    Items and results are sent, `function` is not. What fails there is done here, where an error has its place.
    Processes end with the iterator.
    """
    workers = len(own_cores())
    chunk = max(1, min(_MOST, round(_PART / max(each, 1e-6))))
    waiting: deque[tuple[list[Item], Future[list[Result]] | None]] = deque()
    _FUNCTION.append(function)
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("fork"), begin_forked)
    try:
        while True:
            while len(waiting) < 3 * workers and (part := list(islice(items, chunk))):
                waiting.append((part, _sent(pool, part)))
            if not waiting:
                return
            yield from _results(function, *waiting.popleft())
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        _FUNCTION.remove(function)


def _sent(pool: ProcessPoolExecutor, part: list[Item]) -> Future[list[Any]] | None:
    try:
        return pool.submit(_done, part)
    except BrokenProcessPool:
        return None


def _done(part: list[Any]) -> list[Any]:
    return [_FUNCTION[-1](item) for item in part]


def _results(function: Callable[[Item], Result], part: list[Item], sent: Future[list[Result]] | None) -> list[Result]:
    if sent is not None:
        try:
            return sent.result()
        except Exception:  # of the function, or of what ended the process
            pass
    return [function(item) for item in part]
