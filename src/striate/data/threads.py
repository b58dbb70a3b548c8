"""A function over many items, in order, in a few threads: Pillow decodes outside Python's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def reading_threads() -> int:
    """How many threads read and decode: one for each core that this process may use, eight at most."""
    return min(8, os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count() or 1)


def map_ordered(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    chunk: int = 16,
    workers: int | None = None,
    ahead: int | None = None,
) -> Generator[Result, None, None]:
    """The results in the order of the items, with only a few chunks of them ahead of the reader.

    `chunk` items are one piece of work; `workers` threads (`reading_threads` of them) do at most `ahead` pieces (three
    a thread) before they are asked for. Threads end with the iterator, also where it is closed early or an item fails.
    """
    workers = workers or reading_threads()
    most = ahead or 3 * workers
    source = iter(items)
    waiting: deque[Future[list[Result]]] = deque()

    def work(part: list[Item]) -> list[Result]:
        return [function(item) for item in part]

    with ThreadPoolExecutor(workers, thread_name_prefix="striate-read") as pool:
        try:
            while True:
                while len(waiting) < most and (part := list(islice(source, chunk))):
                    waiting.append(pool.submit(work, part))
                if not waiting:
                    return
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
