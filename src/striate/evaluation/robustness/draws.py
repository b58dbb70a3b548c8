"""What is drawn at random for a batch of images: a pure function of (seed, kind of change, sample id)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.counter_normal import normals
from striate.data.counter_random import hash_key, uniforms


@dataclass(frozen=True, eq=False)
class Draws:
    """The numbers of one batch: the same for every strength, so that a curve follows each image along one way.

    `ids`: (B,) int64 sample ids; `places`: (B,) where the images lie among `pool` (N, C, H, W) uint8, all that are
    measured, of which other images are taken as clutter.
    """

    seed: int
    kind: str
    ids: NDArray[np.int64]
    places: NDArray[np.int64]
    pool: torch.Tensor

    @property
    def key(self) -> int:
        """Of the seed and the kind alone."""
        return hash_key(self.seed, zlib.crc32(self.kind.encode()))

    def uniform(self, count: int) -> NDArray[np.float64]:
        """(B, count) uniform in [0, 1)."""
        return uniforms(self.key, self.ids, count)

    def normal(self, count: int) -> torch.Tensor:
        """(B, count) float32, standard normal."""
        return normals(self.key, torch.from_numpy(self.ids), count)
