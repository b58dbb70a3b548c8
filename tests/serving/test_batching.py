"""Requests that come together are computed together, and one that fails fails alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from striate.serving.batching import Batcher


def computed(items: Sequence[int], most: int = 4, fail: int | None = None) -> tuple[list[object], list[int]]:
    """The answers to all items at once, and the sizes of the batches."""
    sizes: list[int] = []

    def compute(batch: Sequence[int]) -> list[int]:
        if fail in batch:
            raise ValueError(f"{fail} is bad")
        return [10 * item for item in batch]

    async def all_at_once() -> list[object]:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(compute, executor, most, 0.001, sizes.append)
            answers = await asyncio.gather(*(batcher.submit(item) for item in items), return_exceptions=True)
            await batcher.end()
        return list(answers)

    return asyncio.run(all_at_once()), sizes


@pytest.mark.parametrize("count", [1, 4, 11])
def test_each_gets_its_own_answer_in_batches_of_at_most_so_many(count) -> None:
    answers, sizes = computed(range(count))
    assert answers == [10 * item for item in range(count)]
    assert sizes == [4] * (count // 4) + [count % 4] * (count % 4 > 0)


def test_what_is_bad_fails_alone() -> None:
    answers, _ = computed(range(6), fail=2)
    assert isinstance(answers[2], ValueError)
    assert [answer for number, answer in enumerate(answers) if number != 2] == [0, 10, 30, 40, 50]


def test_a_client_that_has_gone_is_not_computed_for() -> None:
    async def leave() -> list[int]:
        seen: list[int] = []
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(lambda batch: [seen.append(item) or item for item in batch], executor, 4, 0.01)
            gone, stays = (asyncio.create_task(batcher.submit(item)) for item in (1, 2))
            await asyncio.sleep(0)
            gone.cancel()
            assert await stays == 2
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
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(slow, executor, 4, 0.0)
            first = asyncio.create_task(batcher.submit(1))
            await asyncio.to_thread(begun.wait, 60)
            end = asyncio.create_task(batcher.end())
            await asyncio.sleep(0.01)
            early = end.done()
            go.set()
            await end
            return early, await first, await batcher.submit(2)

    assert asyncio.run(end_meanwhile()) == (False, 1, 2)
