"""Inputs that are not in memory, to be indexed like the tensor they would be."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.threads import map_ordered

_PIECE_BYTES = 1 << 16
"""Sums are taken of about so many bytes at once."""


class Source(Protocol):
    """Images by row, from wherever they are.

    `shape` is (N, C, H, W). `piece` is how many rows a thread reads at once, where several threads help; None where
    one reads all.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def piece(self) -> int | None: ...

    def read(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Write the images `rows` into `out` (len(rows), C, H, W), in their order. Raises DataError."""

    def sums(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """(len(rows), C, 2): sum and sum of squares of the bytes of each channel of each image."""


@dataclass(frozen=True, eq=False)
class StoredInputs:
    """The `rows` of a source, in that order: what `Split.inputs` is where there is no tensor.

    It has the shape, type and device of the tensor (N, C, H, W) uint8 that it stands for, and its indexing along the
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
        return torch.uint8

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
        out = np.empty((len(rows), *self.source.shape[1:]), np.uint8)
        piece = self.source.piece
        if piece is None or len(rows) <= piece:
            self.source.read(rows, out)
        else:
            starts = range(0, len(rows), piece)
            for _ in map_ordered(lambda a: self.source.read(rows[a : a + piece], out[a : a + piece]), starts, chunk=1):
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


def channel_sums(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(N, C, 2): sum and sum of squares of the bytes of each channel of each of the images (N, C, H, W)."""
    count, channels, *sides = images.shape
    flat = images.reshape(count, channels, math.prod(sides))
    found = np.empty((count, channels, 2), np.int64)
    step = max(1, _PIECE_BYTES // max(1, images[:1].nbytes))
    for a in range(0, count, step):  # as numbers of 8 bytes a whole block would take tens of megabytes in each thread
        piece = flat[a : a + step].astype(np.float64)  # exact: far below 2**53
        found[a : a + step, :, 0] = piece.sum(-1)
        found[a : a + step, :, 1] = np.einsum("ncp,ncp->nc", piece, piece)
    return found
