"""Inputs in memory that do not fit on the accelerator: they are sent there batch by batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from striate.data.store.stored import channel_sums


@dataclass(frozen=True, eq=False)
class HostImages:
    """`images` (N, C, H, W) uint8, as a `Source`."""

    images: NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return self.images.shape

    @property
    def piece(self) -> None:
        """One thread copies: memory is what takes time."""
        return

    def read(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Copy the images `rows` into `out`."""
        np.take(self.images, rows, axis=0, out=out)

    def sums(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sums and sums of squares by channel of the images `rows`."""
        parts = [channel_sums(self.images[rows[a : a + 64]]) for a in range(0, len(rows), 64)]
        return np.concatenate(parts) if parts else np.zeros((0, self.shape[1], 2), np.int64)
