"""All samples decoded once, a block at a time, in a few threads: what packs and streams begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.data.store.stored import channel_sums
from striate.data.threads import map_ordered, reading_threads

BLOCK_BYTES = 2 << 20
"""About so many bytes of images are decoded, checked and written at once."""

ReadRow = Callable[[int, NDArray[np.uint8]], str | None]
"""Decodes sample `row` into an array (C, H, W); returns why it cannot be read, in plain words, or None."""


@dataclass(frozen=True)
class Block:
    """Rows from `start`: `images` (B, C, H, W) uint8, their `sums` (`channel_sums`), and reasons by row for those that
    cannot be read, which are black."""

    number: int
    start: int
    images: NDArray[np.uint8]
    sums: NDArray[np.int64]
    unreadable: dict[int, str]


def rows_in_block(shape: tuple[int, ...]) -> int:
    """How many images of `shape` (C, H, W) a block has."""
    return max(1, BLOCK_BYTES // int(np.prod(shape)))


def decode_blocks(read: ReadRow, count: int, shape: tuple[int, ...], *, first: int = 0) -> Iterator[Block]:
    """The blocks of `count` samples from number `first` on, in order."""
    size = rows_in_block(shape)

    def decode(number: int) -> Block:
        start = number * size
        rows = range(start, min(start + size, count))
        images = np.zeros((len(rows), *shape), np.uint8)
        reasons = {row: read(row, images[row - start]) for row in rows}
        unreadable = {row: why for row, why in reasons.items() if why is not None}
        for row in unreadable:
            images[row - start] = 0
        return Block(number, start, images, channel_sums(images), unreadable)

    return map_ordered(decode, range(first, -(-count // size)), chunk=1, ahead=2 * reading_threads())
