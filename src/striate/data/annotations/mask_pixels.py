"""Masks at the size of the inputs, with the values of the source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.data.media.medium import Preparation

_VALUES = 256


@dataclass(frozen=True)
class MaskPixels:
    """The masks of N samples, in the shape of the inputs."""

    pixels: NDArray[np.uint8]
    """(N, H, W) values of the source; of volumes (N, D, H, W)."""
    border: NDArray[np.bool_] | None
    """The same shape: where the image does not reach; None where it fills the input."""
    occurring: NDArray[np.bool_]
    """(N, 256) whether a value occurs in the mask before it is resized."""

    @classmethod
    def empty(cls, count: int, preparation: Preparation) -> MaskPixels:
        """`count` masks to fill in."""
        shape = (count, *preparation.input_shape[1:])
        border = np.zeros(shape, np.bool_) if preparation.fit == "pad" else None
        return cls(np.zeros(shape, np.uint8), border, np.zeros((count, _VALUES), np.bool_))

    def place(self, row: int, mask: NDArray[np.uint8], placed: NDArray[np.int16]) -> None:
        """Fill in a `mask` of the source, which is `placed` on the grid of the inputs, −1 where there is no image."""
        self.pixels[row] = np.maximum(placed, 0)
        if self.border is not None:
            self.border[row] = placed < 0
        self.occurring[row, np.unique(mask)] = True

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> MaskPixels:
        """The masks at `rows`."""
        border = None if self.border is None else self.border[rows]
        return MaskPixels(self.pixels[rows], border, self.occurring[rows])

    def numbered(self, table: NDArray[np.uint8], border: int) -> NDArray[np.uint8]:
        """(N, H, W) uint8: `table` (256,) applied to the values, and `border` where there is no image. The values are
        overwritten, since a second copy of all masks would need twice the memory."""
        np.take(table, self.pixels, out=self.pixels, mode="clip")  # any other mode makes a copy
        if self.border is not None:
            self.pixels[self.border] = border
        return self.pixels

    @property
    def values(self) -> set[int]:
        """All values that occur in any of them."""
        return set(np.flatnonzero(self.occurring.any(0)).tolist())

    # As rows of bytes, which a pack can hold

    @staticmethod
    def row_bytes(preparation: Preparation) -> int:
        """Bytes of a row: pixels, the border (with `data.fit pad`), and which values occur."""
        height, width = preparation.input_shape[1:]
        return height * width * (2 if preparation.fit == "pad" else 1) + _VALUES // 8

    def to_rows(self) -> NDArray[np.uint8]:
        """(N, row_bytes)."""
        count = len(self.pixels)
        border = () if self.border is None else (self.border.reshape(count, -1).view(np.uint8),)
        return np.concatenate(
            [self.pixels.reshape(count, -1), *border, np.packbits(self.occurring, axis=1)], axis=1, dtype=np.uint8
        )

    def enter_rows(self, start: int, rows: NDArray[np.uint8]) -> None:
        """Fill in masks from `start` on, from rows of bytes."""
        part, shape = slice(start, start + len(rows)), (len(rows), *self.pixels.shape[1:])
        size = self.pixels[0].size
        self.pixels[part] = rows[:, :size].reshape(shape)
        if self.border is not None:
            self.border[part] = rows[:, size : 2 * size].reshape(shape)
        self.occurring[part] = np.unpackbits(rows[:, -_VALUES // 8 :], axis=1)
