"""Little data, to see whether a benchmark runs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


@contextmanager
def quick_data(shape: tuple[int, int, int], wanted: bool = True, samples: int = 320) -> Iterator[str | None]:
    """A file of noise with ten classes, for training, validation and test, while open; None where it is not wanted."""
    if not wanted:
        yield None
        return
    numbers = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", samples), ("val", 32), ("test", 32)):
        arrays[f"x_{part}"] = numbers.integers(0, 256, (count, *shape), np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % 10
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "few.npz"
        np.savez(file, **arrays)
        yield str(file)
