"""Inputs that are not in memory, which are indexed like a tensor.

They are read from a `Source`: a pack on disk, or a `Stream`, which decodes them whenever they are read, and needs
neither memory nor disk space.
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
"""Sums are computed over about so many bytes at once."""


class Source(Protocol):
    """Images that are read by row.

    `shape` is (N, C, H, W), `dtype` the type of the images. `piece` is the number of rows that each of `threads`
    threads reads at once; None where one thread reads all.
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
    """The inputs of a `Split` that are not in memory: rows of a source.

    It has the shape, type and device of the tensor (N, C, H, W) that it represents. Indexing along the first axis
    reads, and returns an ordinary tensor on `device`; `take` selects without reading.
    """

    source: Source
    rows: NDArray[np.int64]
    """(N,) rows of the source, in this order."""
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
        """Reads the images at `key`: a number, a slice, positions or a mask. Raises DataError."""
        rows = np.asarray(self.rows[as_index(key)])
        if rows.ndim == 0:
            return self._read(rows[None])[0]
        return self._read(rows)

    def take(self, key: slice | torch.Tensor | NDArray[np.int64]) -> StoredInputs:
        """The selected inputs, not read yet."""
        return replace(self, rows=self.rows[as_index(key)])

    def to(self, device: torch.device | str) -> StoredInputs:
        """The same inputs, which are sent to `device` when they are read."""
        return replace(self, device=torch.device(device))

    def cpu(self) -> StoredInputs:
        """The same inputs, which stay in memory when they are read."""
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
"""The inputs of a split: in memory, or stored."""


def as_index(key: Any) -> Any:
    """An index that NumPy accepts."""
    return key.cpu().numpy() if isinstance(key, torch.Tensor) else key


def take_rows(inputs: Inputs, rows: torch.Tensor) -> Inputs:
    """The selected inputs: a copy of a tensor, or a selection of stored inputs."""
    return inputs.take(rows) if isinstance(inputs, StoredInputs) else inputs[rows]


def join_inputs(parts: list[Inputs]) -> Inputs:
    """Inputs of one data set, one after the other."""
    stored = [part for part in parts if isinstance(part, StoredInputs)]
    if stored:
        assert all(part.source is stored[0].source for part in stored) and len(stored) == len(parts)
        return replace(stored[0], rows=np.concatenate([part.rows for part in stored]))
    return torch.cat([part for part in parts if isinstance(part, torch.Tensor)])


def sums_type(dtype: np.dtype) -> str:
    """The type of sums over images of type `dtype`: integers for bytes."""
    return "<i8" if dtype == np.uint8 else "<f8"


def channel_sums(images: NDArray[Any]) -> NDArray[Any]:
    """(N, C, 2): sum and sum of squares of the values of each channel of each of the images (N, C, H, W)."""
    count, channels, *sides = images.shape
    flat = images.reshape(count, channels, math.prod(sides))
    found = np.empty((count, channels, 2), sums_type(images.dtype))
    step = max(1, _PIECE_BYTES // max(1, images[:1].nbytes))
    for a in range(0, count, step):  # a whole block in 8-byte numbers would take tens of megabytes in each thread
        piece = flat[a : a + step].astype(np.float64)  # exact for bytes: far below 2**53
        found[a : a + step, :, 0] = piece.sum(-1)
        found[a : a + step, :, 1] = np.einsum("ncp,ncp->nc", piece, piece)
    return found


BLOCK_BYTES = 2 << 20
"""About so many bytes of images are decoded, checked and written at once."""

ReadRow = Callable[[int, NDArray[Any]], str | None]
"""Decodes sample `row` into an array (C, H, W); returns why it cannot be read, or None."""


@dataclass(frozen=True)
class DecodedBlock:
    """A block of B decoded images."""

    number: int
    start: int
    """The row of its first image."""
    images: NDArray[Any]
    """(B, C, H, W); images that cannot be read are black."""
    sums: NDArray[Any]
    """`channel_sums` of the images."""
    unreadable: dict[int, str]
    """Why an image cannot be read, by row."""


def rows_in_block(shape: tuple[int, ...]) -> int:
    """The number of images of `shape` (C, H, W) in a block."""
    return max(1, BLOCK_BYTES // int(np.prod(shape)))


def decode_blocks(
    read: ReadRow, count: int, shape: tuple[int, ...], *, dtype: np.dtype, first: int = 0
) -> Iterator[DecodedBlock]:
    """The blocks of `count` samples from number `first` on, in order."""
    size = rows_in_block(shape)

    def decode(number: int) -> DecodedBlock:
        start = number * size
        rows = range(start, min(start + size, count))
        images = np.zeros((len(rows), *shape), dtype)
        reasons = {row: read(row, images[row - start]) for row in rows}
        unreadable = {row: why for row, why in reasons.items() if why is not None}
        for row in unreadable:
            images[row - start] = 0
        return DecodedBlock(number, start, images, channel_sums(images), unreadable)

    return map_ordered(decode, range(first, -(-count // size)), chunk=1, ahead=2 * reading_threads())
