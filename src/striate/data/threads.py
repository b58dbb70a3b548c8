"""A function over many items, in order, in a few threads: Pillow decodes outside Python's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ordered(function: Callable[[Item], Result], items: Iterable[Item], *, chunk: int = 16) -> Iterator[Result]:
    """The results in the order of the items, with only a few chunks of them ahead of the reader."""
    workers = min(8, os.process_cpu_count() if hasattr(os, "process_cpu_count") else os.cpu_count() or 1)
    source = iter(items)
    ahead: deque[Future[list[Result]]] = deque()

    def work(part: list[Item]) -> list[Result]:
        return [function(item) for item in part]

    with ThreadPoolExecutor(workers, thread_name_prefix="striate-read") as pool:
        try:
            while True:
                while len(ahead) < 3 * workers and (part := list(islice(source, chunk))):
                    ahead.append(pool.submit(work, part))
                if not ahead:
                    return
                yield from ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
