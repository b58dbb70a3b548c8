"""Requests that come at about the same time are computed together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from threading import Condition
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Reads items in the threads of `readers`, and computes one batch of them after the other in the `executor`: all
    that were read while the last one was computed, up to `most` items. While others are read, the first item of a batch
    waits for them, at most `patience` seconds.

    What fails together is computed item by item, so that one bad item fails alone. `seen` is told the size of each
    batch. Ask from one event loop only; its thread wakes once a batch, not once for each step of each item.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Sequence[Answer]],
        executor: Executor,
        readers: Executor,
        most: int,
        patience: float,
        seen: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._compute, self._executor, self._readers, self._seen = compute, executor, readers, seen
        self._most, self._patience = most, patience
        self._waited_for: set[asyncio.Future[Answer]] = set()
        self._changed = Condition()  # guards what follows, which several threads use
        self._ready: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._reading, self._working = 0, False

    async def submit(self, read: Callable[[], Item]) -> Answer:
        """The answer for the item that `read` gives. Raises what reading or computing it raises."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waited_for.add(answer)
        answer.add_done_callback(self._waited_for.discard)
        with self._changed:
            self._reading += 1
        self._readers.submit(self._read, read, answer)
        return await answer

    async def end(self) -> None:
        """Finish what is read, what waits and what is computed."""
        while self._waited_for:
            await asyncio.wait(self._waited_for)

    def _read(self, read: Callable[[], Item], answer: asyncio.Future[Answer]) -> None:
        """In a thread of the readers: read an item, and see that somebody computes it."""
        try:
            item = None if answer.cancelled() else (read(), answer)
        except Exception as error:
            item = None
            answer.get_loop().call_soon_threadsafe(_give, [(answer, error)])
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
        """In the thread of the executor: compute a batch, and queue up again while more are ready."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._ready) >= self._most or not self._reading, self._patience)
            batch = [self._ready.popleft() for _ in range(min(self._most, len(self._ready)))]
        batch = [(item, answer) for item, answer in batch if not answer.cancelled()]  # the client has gone
        try:
            if batch:
                self._seen(len(batch))
                found = zip((answer for _, answer in batch), self._computed([item for item, _ in batch]), strict=True)
                batch[0][1].get_loop().call_soon_threadsafe(_give, list(found))
        finally:
            with self._changed:
                self._working = goes_on = bool(self._ready)
            if goes_on:
                self._executor.submit(self._work)

    def _computed(self, items: Sequence[Item]) -> Sequence[Any]:
        """The answer of each, or the exception that it raises alone."""
        try:
            return self._compute(items)
        except Exception as error:
            return [error] if len(items) == 1 else [self._computed([item])[0] for item in items]


def _give(found: Iterable[tuple[asyncio.Future[Any], Any]]) -> None:
    """In the event loop: answers to those who still wait for them."""
    for answer, value in found:
        if answer.done():
            continue
        if isinstance(value, Exception):
            answer.set_exception(value)
        else:
            answer.set_result(value)
