"""Requests that come at about the same time are computed together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Computes one batch after the other in the `executor`: all that came while the last one was computed, up to
    `most` items. The first item of a batch waits at most `patience` seconds for others.

    What fails together is computed item by item, so that one bad item fails alone. `seen` is told the size of each
    batch. Ask from one event loop only.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Item]], Sequence[Answer]],
        executor: Executor,
        most: int,
        patience: float,
        seen: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._compute, self._executor, self._seen = compute, executor, seen
        self._most, self._patience = most, patience
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def submit(self, item: Item) -> Answer:
        """The answer for the item. Raises what computing it raises."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await answer

    async def end(self) -> None:
        """Finish what waits and what is computed."""
        while self._worker is not None and not self._worker.done():
            await asyncio.wait([self._worker])

    async def _work(self) -> None:
        """Until nothing waits any more."""
        if len(self._waiting) < self._most:
            await asyncio.sleep(self._patience)
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
            batch = [(item, answer) for item, answer in batch if not answer.cancelled()]  # the client has gone
            if batch:
                self._seen(len(batch))
                await self._answer(batch)

    async def _answer(self, batch: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        loop, items = asyncio.get_running_loop(), [item for item, _ in batch]
        try:
            found: Sequence[Any] = await loop.run_in_executor(self._executor, self._compute, items)
        except Exception as error:
            if len(batch) > 1:
                for one in batch:
                    await self._answer([one])
                return
            found = [error]
        for answer, value in zip((answer for _, answer in batch), found, strict=True):
            if answer.done():
                continue
            if isinstance(value, Exception):
                answer.set_exception(value)
            else:
                answer.set_result(value)
