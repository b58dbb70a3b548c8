"""Requests that come at about the same time are computed together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from threading import Condition
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Reads items in the threads of `readers`, and computes them in batches in the `executor`. A batch has the items
    that were read while the previous one was computed, at most `most`. While further items are read, the first item of
    a batch waits for them, at most `patience` seconds.

    A batch that fails is computed again item by item, so that a bad item fails alone. `seen` is called with the size of
    each batch. Submit from one event loop only; its thread wakes once a batch, not for each step of each item.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Sequence[Result]],
        executor: Executor,
        readers: Executor,
        most: int,
        patience: float,
        seen: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._compute, self._executor, self._readers, self._seen = compute, executor, readers, seen
        self._most, self._patience = most, patience
        self._waited_for: set[asyncio.Future[Result]] = set()
        self._changed = Condition()  # guards what follows, which several threads use
        self._ready: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._reading, self._working = 0, False

    async def submit(self, read: Callable[[], Item]) -> Result:
        """The result for the item that `read` returns. Raises the exceptions of reading and computing it."""
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waited_for.add(result)
        result.add_done_callback(self._waited_for.discard)
        with self._changed:
            self._reading += 1
        self._readers.submit(self._read, read, result)
        return await result

    async def end(self) -> None:
        """Finish all submitted items."""
        while self._waited_for:
            await asyncio.wait(self._waited_for)

    def _read(self, read: Callable[[], Item], result: asyncio.Future[Result]) -> None:
        """In a thread of the readers: read an item, and start computing unless that runs already."""
        try:
            item = None if result.cancelled() else (read(), result)
        except Exception as error:
            item = None
            result.get_loop().call_soon_threadsafe(_set_results, [(result, error)])
        with self._changed:
            self._reading -= 1
            if item is not None:
                self._ready.append(item)
            starts = bool(self._ready) and not self._working
            self._working = self._working or starts
            self._changed.notify()
        if starts:
            self._executor.submit(self._work)

    def _work(self) -> None:
        """In the thread of the executor: compute a batch, and submit the next one if more items are ready."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._ready) >= self._most or not self._reading, self._patience)
            batch = [self._ready.popleft() for _ in range(min(self._most, len(self._ready)))]
        batch = [(item, result) for item, result in batch if not result.cancelled()]  # the client has gone
        try:
            if batch:
                self._seen(len(batch))
                found = zip((result for _, result in batch), self._computed([item for item, _ in batch]), strict=True)
                batch[0][1].get_loop().call_soon_threadsafe(_set_results, list(found))
        finally:
            with self._changed:
                self._working = goes_on = bool(self._ready)
            if goes_on:
                self._executor.submit(self._work)

    def _computed(self, items: Sequence[Item]) -> Sequence[Any]:
        """The result of each item, or the exception that the item raises alone."""
        try:
            return self._compute(items)
        except Exception as error:
            return [error] if len(items) == 1 else [self._computed([item])[0] for item in items]


def _set_results(found: Iterable[tuple[asyncio.Future[Any], Any]]) -> None:
    """In the event loop: set the results that are still waited for."""
    for result, value in found:
        if result.done():
            continue
        if isinstance(value, Exception):
            result.set_exception(value)
        else:
            result.set_result(value)
