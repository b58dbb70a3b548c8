"""Requests that come together are computed together, and one that fails fails alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from striate.serving.batching import Batcher


@contextmanager
def batcher_of(compute: Any, most: int = 4, patience: float = 5.0, sizes: Any = None) -> Iterator[Batcher[Any, Any]]:
    with ThreadPoolExecutor(1) as executor, ThreadPoolExecutor(2) as readers:
        yield Batcher(compute, executor, readers, most, patience, (sizes if sizes is not None else []).append)


def read(item: int, unreadable: int | None = None) -> int:
    if item == unreadable:
        raise OSError(f"{item} cannot be read")
    return item


def computed(
    items: Sequence[int], fail: int | None = None, unreadable: int | None = None
) -> tuple[list[object], list[int]]:
    """The answers to all items at once, and the sizes of the batches."""
    sizes: list[int] = []

    def compute(batch: Sequence[int]) -> list[int]:
        if fail in batch:
            raise ValueError(f"{fail} is bad")
        return [10 * item for item in batch]

    async def all_at_once() -> list[object]:
        with batcher_of(compute, sizes=sizes) as batcher:
            asked = (batcher.submit(partial(read, item, unreadable)) for item in items)
            answers = await asyncio.gather(*asked, return_exceptions=True)
            await batcher.end()
        return list(answers)

    return asyncio.run(all_at_once()), sizes


@pytest.mark.parametrize("count", [1, 4, 11])
def test_each_gets_its_own_answer_in_batches_of_at_most_so_many(count) -> None:
    answers, sizes = computed(range(count))
    assert answers == [10 * item for item in range(count)]
    assert (sum(sizes), max(sizes) <= 4) == (count, True)


def test_a_batch_waits_for_those_that_are_read() -> None:
    begun, go, sizes = threading.Event(), threading.Event(), []

    def slow() -> int:
        begun.set()
        assert go.wait(60)
        return 1

    async def two() -> list[int]:
        with batcher_of(list, patience=60.0, sizes=sizes) as batcher:
            first = asyncio.create_task(batcher.submit(slow))
            await asyncio.to_thread(begun.wait, 60)
            second = asyncio.create_task(batcher.submit(lambda: 2))
            await asyncio.sleep(0.02)
            go.set()
            return [await first, await second]

    assert (asyncio.run(two()), sizes) == ([1, 2], [2])


def test_what_is_bad_fails_alone() -> None:
    answers, _ = computed(range(6), fail=2, unreadable=4)
    assert [type(answers[2]), type(answers[4])] == [ValueError, OSError]
    assert [answer for number, answer in enumerate(answers) if number not in (2, 4)] == [0, 10, 30, 50]


def test_a_client_that_has_gone_is_not_computed_for() -> None:
    begun, go = threading.Event(), threading.Event()

    def slow() -> int:
        begun.set()
        assert go.wait(60)
        return 1

    async def leave() -> list[int]:
        seen: list[int] = []
        with batcher_of(lambda batch: [seen.append(item) or item for item in batch]) as batcher:
            gone = asyncio.create_task(batcher.submit(slow))
            await asyncio.to_thread(begun.wait, 60)
            gone.cancel()
            await asyncio.sleep(0)
            go.set()
            assert await batcher.submit(lambda: 2) == 2
            await batcher.end()
        return seen

    assert asyncio.run(leave()) == [2]


def test_the_end_waits_for_what_is_computed_and_later_items_are_answered_too() -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(batch: Sequence[int]) -> list[int]:
        begun.set()
        assert go.wait(60)
        return list(batch)

    async def end_meanwhile() -> tuple[bool, int, int]:
        with batcher_of(slow, patience=0.0) as batcher:
            first = asyncio.create_task(batcher.submit(lambda: 1))
            await asyncio.to_thread(begun.wait, 60)
            end = asyncio.create_task(batcher.end())
            await asyncio.sleep(0.01)
            early = end.done()
            go.set()
            await end
            return early, await first, await batcher.submit(lambda: 2)

    assert asyncio.run(end_meanwhile()) == (False, 1, 2)
