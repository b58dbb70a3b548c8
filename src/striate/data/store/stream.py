"""Inputs that are decoded whenever they are asked for: for what neither memory nor disk has room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.data.store.blocks import ReadRow, decode_blocks
from striate.errors import DataError

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Stream:
    """Samples decoded by `reader`, as a `Source`. `known_sums` are those of all rows, `named` says what a row is."""

    shape: tuple[int, ...]
    reader: ReadRow
    known_sums: NDArray[np.int64]
    named: Callable[[int], str]

    @property
    def piece(self) -> int:
        """Rows that a thread decodes at once."""
        return max(1, min(16, _PIECE_BYTES // int(np.prod(self.shape[1:]))))

    def read(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Decode `rows` into `out`. Raises DataError for what could be read before and cannot now."""
        for position, row in enumerate(rows.tolist()):
            why = self.reader(row, out[position])
            if why is not None:
                raise DataError(
                    self.named(row),
                    why,
                    "the picture that was there when the data were first read",
                    "put the file back and go on with --resume; --data.store pack keeps a copy of decoded pictures",
                )

    def sums(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sums and sums of squares by channel, known since everything was decoded once."""
        chosen: NDArray[np.int64] = self.known_sums[rows]
        return chosen


def open_stream(
    read: ReadRow, count: int, shape: tuple[int, ...], *, named: Callable[[int], str], progress: Callable[[int], None]
) -> tuple[Stream, dict[int, str]]:
    """Decode everything once, keeping nothing but sums by channel, and reasons by row for what cannot be read.

    `progress` is told of every number of rows that is done.
    """
    sums = np.zeros((count, shape[0], 2), np.int64)
    unreadable: dict[int, str] = {}
    for block in decode_blocks(read, count, shape):
        sums[block.start : block.start + len(block.sums)] = block.sums
        unreadable |= block.unreadable
        progress(len(block.images))
    return Stream((count, *shape), read, sums, named), unreadable
