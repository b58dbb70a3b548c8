"""Batches of stored inputs, read in the background while the reader of batches computes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.store.stored import StoredInputs
from striate.data.threads import map_ordered, reading_threads

AHEAD_BYTES = 64 << 20
"""Batches are read ahead to about so many bytes, but always the next one."""
_WINDOW_BATCHES = 8


@dataclass(frozen=True)
class _Piece:
    """Rows to be read into `out`; `ends` are the bounds of the batches of the window of which this is the last."""

    rows: NDArray[np.int64]
    out: NDArray[np.uint8]
    window: NDArray[np.uint8]
    ends: tuple[tuple[int, int], ...]


def read_ahead(
    inputs: StoredInputs, bounds: Sequence[tuple[int, int]], order: NDArray[np.int64]
) -> Generator[torch.Tensor, None, None]:
    """The inputs of each batch, from `bounds[k][0]` to `bounds[k][1]` of the `order`, in memory.

    A source that is read by one thread is read several batches at once, since sorted reading is faster; one that needs
    threads is read in small pieces by all of them. Threads end with the iterator.
    """
    piece = inputs.source.piece
    sample = int(np.prod(inputs.shape[1:]))
    batch = max((stop - start for start, stop in bounds), default=1) * sample
    budget = max(1, AHEAD_BYTES // batch)
    if piece is None:
        window, workers, ahead = max(1, min(_WINDOW_BATCHES, budget // 2)), 1, 2
    else:
        window, workers = 1, reading_threads()
        pieces = -(-batch // (piece * sample))
        ahead = max(workers, pieces * min(budget, 3))

    def read(part: _Piece) -> _Piece:
        inputs.source.read(part.rows, part.out)
        return part

    for part in map_ordered(read, _pieces(inputs, bounds, order, window, piece), chunk=1, workers=workers, ahead=ahead):
        for start, stop in part.ends:
            yield torch.from_numpy(part.window[start:stop])


def _pieces(
    inputs: StoredInputs,
    bounds: Sequence[tuple[int, int]],
    order: NDArray[np.int64],
    window: int,
    piece: int | None,
) -> Iterator[_Piece]:
    for first in range(0, len(bounds), window):
        batches = bounds[first : first + window]
        rows = inputs.rows[np.concatenate([order[a:b] for a, b in batches])]  # there may be gaps between batches
        out = np.empty((len(rows), *inputs.shape[1:]), np.uint8)
        last_ones = np.cumsum([b - a for a, b in batches]).tolist()
        ends = tuple(zip([0, *last_ones[:-1]], last_ones, strict=True))
        step = piece or len(rows)
        for a in range(0, len(rows), step):
            last = a + step >= len(rows)
            yield _Piece(rows[a : a + step], out[a : a + step], out, ends if last else ())
