"""Inputs that are not in memory, to be indexed like the tensor they would be.

`Source` is where they are read from: a pack on the disk, or a `Stream` that decodes them whenever they are read, for
which neither memory nor disk needs room.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.threads import map_ordered, reading_threads

_PIECE_BYTES = 1 << 16
"""Sums are taken of about so many bytes at once."""


class Source(Protocol):
    """Images by row, from wherever they are.

    `shape` is (N, C, H, W), `dtype` that of the images. `piece` is how many rows a thread reads at once, where several
    `threads` help; None where one reads all.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    @property
    def piece(self) -> int | None: ...

    @property
    def threads(self) -> int: ...

    def read(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Write the images `rows` into `out` (len(rows), C, H, W), in their order. Raises DataError."""

    def sums(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """(len(rows), C, 2): sum and sum of squares of the values of each channel of each image."""


@dataclass(frozen=True, eq=False)
class StoredInputs:
    """The `rows` of a source, in that order: what `Split.inputs` is where there is no tensor.

    It has the shape, type and device of the tensor (N, C, H, W) that it stands for, and its indexing along the
    first axis, which reads and gives an ordinary tensor on `device`. `take` selects without reading.
    """

    source: Source
    rows: NDArray[np.int64]
    device: torch.device = torch.device("cpu")  # noqa: RUF009 — a plain value

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.rows), *self.source.shape[1:]))

    @property
    def ndim(self) -> int:
        return len(self.source.shape)

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8 if self.source.dtype == np.uint8 else torch.float32

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | slice | torch.Tensor | NDArray[np.int64]) -> torch.Tensor:
        """The images at `key`, a number, a slice, positions or a mask, read now. Raises DataError."""
        rows = np.asarray(self.rows[as_index(key)])
        if rows.ndim == 0:
            return self._read(rows[None])[0]
        return self._read(rows)

    def take(self, key: slice | torch.Tensor | NDArray[np.int64]) -> StoredInputs:
        """The selected inputs, not read yet."""
        return replace(self, rows=self.rows[as_index(key)])

    def to(self, device: torch.device | str) -> StoredInputs:
        """The same inputs, to arrive on `device` when they are read."""
        return replace(self, device=torch.device(device))

    def cpu(self) -> StoredInputs:
        """The same inputs, to arrive in memory."""
        return self.to("cpu")

    def _read(self, rows: NDArray[np.int64]) -> torch.Tensor:
        out = np.empty((len(rows), *self.source.shape[1:]), self.source.dtype)
        piece = self.source.piece
        if piece is None or len(rows) <= piece:
            self.source.read(rows, out)
        else:
            starts, workers = range(0, len(rows), piece), self.source.threads

            def read(a: int) -> None:
                self.source.read(rows[a : a + piece], out[a : a + piece])

            for _ in map_ordered(read, starts, chunk=1, workers=workers):
                pass
        return torch.from_numpy(out).to(self.device)


Inputs = torch.Tensor | StoredInputs
"""What a split holds: images in memory or stored."""


def as_index(key: Any) -> Any:
    """An index as NumPy takes it."""
    return key.cpu().numpy() if isinstance(key, torch.Tensor) else key


def take_rows(inputs: Inputs, rows: torch.Tensor) -> Inputs:
    """The selected inputs: a copy of a tensor, a selection of what is stored."""
    return inputs.take(rows) if isinstance(inputs, StoredInputs) else inputs[rows]


def join_inputs(parts: list[Inputs]) -> Inputs:
    """Inputs of one data set, one after the other."""
    stored = [part for part in parts if isinstance(part, StoredInputs)]
    if stored:
        assert all(part.source is stored[0].source for part in stored) and len(stored) == len(parts)
        return replace(stored[0], rows=np.concatenate([part.rows for part in stored]))
    return torch.cat([part for part in parts if isinstance(part, torch.Tensor)])


def sums_type(dtype: np.dtype) -> str:
    """The type of sums over images of a type: whole numbers of bytes."""
    return "<i8" if dtype == np.uint8 else "<f8"


def channel_sums(images: NDArray[Any]) -> NDArray[Any]:
    """(N, C, 2): sum and sum of squares of the values of each channel of each of the images (N, C, H, W)."""
    count, channels, *sides = images.shape
    flat = images.reshape(count, channels, math.prod(sides))
    found = np.empty((count, channels, 2), sums_type(images.dtype))
    step = max(1, _PIECE_BYTES // max(1, images[:1].nbytes))
    for a in range(0, count, step):  # as numbers of 8 bytes a whole block would take tens of megabytes in each thread
        piece = flat[a : a + step].astype(np.float64)  # exact for bytes: far below 2**53
        found[a : a + step, :, 0] = piece.sum(-1)
        found[a : a + step, :, 1] = np.einsum("ncp,ncp->nc", piece, piece)
    return found


BLOCK_BYTES = 2 << 20
"""About so many bytes of images are decoded, checked and written at once."""

ReadRow = Callable[[int, NDArray[Any]], str | None]
"""Decodes sample `row` into an array (C, H, W); returns why it cannot be read, in plain words, or None."""


@dataclass(frozen=True)
class Block:
    """Rows from `start`: `images` (B, C, H, W), their `sums` (`channel_sums`), and reasons by row for those that
    cannot be read, which are black."""

    number: int
    start: int
    images: NDArray[Any]
    sums: NDArray[Any]
    unreadable: dict[int, str]


def rows_in_block(shape: tuple[int, ...]) -> int:
    """How many images of `shape` (C, H, W) a block has."""
    return max(1, BLOCK_BYTES // int(np.prod(shape)))


def decode_blocks(
    read: ReadRow, count: int, shape: tuple[int, ...], *, dtype: np.dtype, first: int = 0
) -> Iterator[Block]:
    """The blocks of `count` samples from number `first` on, in order."""
    size = rows_in_block(shape)

    def decode(number: int) -> Block:
        start = number * size
        rows = range(start, min(start + size, count))
        images = np.zeros((len(rows), *shape), dtype)
        reasons = {row: read(row, images[row - start]) for row in rows}
        unreadable = {row: why for row, why in reasons.items() if why is not None}
        for row in unreadable:
            images[row - start] = 0
        return Block(number, start, images, channel_sums(images), unreadable)

    return map_ordered(decode, range(first, -(-count // size)), chunk=1, ahead=2 * reading_threads())
