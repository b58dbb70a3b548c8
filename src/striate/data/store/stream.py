"""Samples that are decoded whenever they are read: in threads, or in processes, which live as long as the stream."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from striate.data.processes import WORTH, Forked, may_fork, process_count, shared_empty
from striate.data.store.stored import ReadRow, channel_sums, rows_in_block, sums_type
from striate.data.threads import map_ordered, reading_threads
from striate.errors import DataError

_READ_BYTES, _SENT_BYTES = 1 << 20, 1 << 18

Reasons = dict[int, str]
"""Why a row cannot be read, by row; such rows are black."""


class Decoder(Protocol):
    """Decodes at most `piece` rows per call; `threads` threads of this process may call it at the same time."""

    @property
    def piece(self) -> int: ...

    @property
    def threads(self) -> int: ...

    def images(self, rows: Sequence[int], out: NDArray[Any]) -> Reasons:
        """Decode `rows` into `out` (len(rows), C, H, W)."""

    def sums(self, rows: Sequence[int]) -> tuple[NDArray[Any], Reasons]:
        """Their `channel_sums`."""


@dataclass(frozen=True, eq=False)
class Stream:
    """Samples that are decoded whenever they are read, as a `Source`."""

    shape: tuple[int, ...]
    decoder: Decoder
    known_sums: NDArray[Any]
    """`channel_sums` of all rows."""
    named: Callable[[int], str]
    """Names a row, for messages."""
    dtype: np.dtype

    @property
    def piece(self) -> int:
        """Rows that are decoded at once."""
        return self.decoder.piece

    @property
    def threads(self) -> int:
        """Threads that decode, or wait for a process that does."""
        return self.decoder.threads

    def read(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Decode `rows` into `out`. Raises DataError for a sample that can no longer be read."""
        for row, why in self.decoder.images(rows.tolist(), out).items():
            raise DataError(
                self.named(row),
                why,
                "the picture that was there when the data were first read",
                "put the file back and continue with --resume; --data.store pack stores a copy of decoded pictures",
            )

    def sums(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Sums and sums of squares by channel, which were computed when everything was decoded once."""
        chosen: NDArray[Any] = self.known_sums[rows]
        return chosen


def open_stream(
    read: ReadRow,
    count: int,
    shape: tuple[int, ...],
    *,
    dtype: str = "uint8",
    named: Callable[[int], str],
    progress: Callable[[int], None],
) -> tuple[Stream, Reasons]:
    """Decode everything once, for the sums by channel and the reasons of rows that cannot be read.

    `progress` is called with the number of rows that were decoded since its last call.
    """
    kind = np.dtype(dtype)
    sums, unreadable = np.zeros((count, shape[0], 2), sums_type(kind)), Reasons()
    decoder: Decoder = InThreads(read, shape, kind)

    def decode(start: int, stop: int) -> int:
        sums[start:stop], reasons = decoder.sums(range(start, stop))
        unreadable.update(reasons)
        return stop - start

    first = min(count, decoder.piece)
    progress(decode(0, min(1, first)))  # first, so that the time of loading libraries is not measured
    began = perf_counter()
    progress(decode(1, first) if first > 1 else 0)
    if first > 1 and count * (perf_counter() - began) / (first - 1) > WORTH and may_fork():
        decoder = InProcesses(read, shape, kind)
    block = rows_in_block(shape)
    pieces = ((start, min(start + block, count)) for start in range(first, count, block))
    for done in map_ordered(lambda piece: decode(*piece), pieces, chunk=1, workers=decoder.threads):
        progress(done)
    return Stream((count, *shape), decoder, sums, named, kind), unreadable


@dataclass(frozen=True)
class InThreads:
    """A decoder that decodes in the calling thread."""

    read: ReadRow
    """Decodes a row."""
    shape: tuple[int, ...]
    """(C, H, W) of an image."""
    dtype: np.dtype

    @property
    def piece(self) -> int:
        """A few rows, so that all threads share a batch."""
        return max(1, min(16, _READ_BYTES // int(np.prod(self.shape))))

    @property
    def threads(self) -> int:
        """One thread per core, at most a few."""
        return reading_threads()

    def images(self, rows: Sequence[int], out: NDArray[Any]) -> Reasons:
        """Decode `rows` into `out`."""
        found = ((row, self.read(row, image)) for row, image in zip(rows, out, strict=True))
        reasons = {row: why for row, why in found if why is not None}
        for row in reasons:
            out[rows.index(row)] = 0
        return reasons

    def sums(self, rows: Sequence[int]) -> tuple[NDArray[Any], Reasons]:
        """Their `channel_sums`."""
        out = np.zeros((len(rows), *self.shape), self.dtype)
        reasons = self.images(rows, out)
        return channel_sums(out), reasons


_Task = tuple[int | None, Sequence[int]]
_Done = tuple[NDArray[Any] | None, Reasons]


class InProcesses:
    """A decoder that decodes in forked processes, into shared memory in which each task has a place of its own."""

    def __init__(self, read: ReadRow, shape: tuple[int, ...], dtype: np.dtype) -> None:
        # Twice as many tasks as cores, so that each process has a next one when it finishes.
        self.threads, here = 2 * process_count(), InThreads(read, shape, dtype)
        # Sending a task takes as long as decoding some thumbnails.
        self.piece = max(here.piece, _SENT_BYTES // int(np.prod(shape)))
        self._memory = shared_empty((self.threads, self.piece, *shape), dtype.str)
        self._free: SimpleQueue[int] = SimpleQueue()
        for place in range(self.threads):
            self._free.put(place)
        self._forked = Forked(partial(_decode, here, self._memory))
        weakref.finalize(self, self._forked.close)

    def images(self, rows: Sequence[int], out: NDArray[Any]) -> Reasons:
        """Decode `rows` into `out`."""
        place = self._free.get()
        try:
            ((_, reasons),) = self._forked.sent([(place, rows)])()
            out[...] = self._memory[place, : len(rows)]
        finally:
            self._free.put(place)
        return reasons

    def sums(self, rows: Sequence[int]) -> tuple[NDArray[Any], Reasons]:
        """Their `channel_sums`, computed in the processes."""
        ((sums, reasons),) = self._forked.sent([(None, rows)])()
        assert sums is not None
        return sums, reasons


def _decode(decoder: InThreads, memory: NDArray[Any], task: _Task) -> _Done:
    place, rows = task
    if place is None:
        return decoder.sums(rows)
    return None, decoder.images(rows, memory[place, : len(rows)])
