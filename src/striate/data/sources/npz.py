"""NumPy archives: x_train y_train x_test y_test, optional x_val y_val; or x y."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from striate.data.config import Layout
from striate.data.listing import Listing
from striate.data.sources.arrays import list_arrays
from striate.data.sources.tree import too_much, unpacked_limit
from striate.errors import DataError

_EXPECTED = "the arrays x_train, y_train, x_test, y_test (and x_val, y_val), or x and y"


def list_npz(path: Path, layout: Layout) -> Listing:
    """The arrays of an .npz, loaded without pickles. Raises DataError."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked, packed = sum(m.file_size for m in archive.infolist()), path.stat().st_size
        if unpacked > unpacked_limit(packed):
            raise too_much(f"data {path}", unpacked_limit(packed), packed)
        with np.load(path, allow_pickle=False) as file:
            names = set(file.files)
            used = {f"{axis}_{split}" for axis in "xy" for split in ("train", "val", "test")} | {"x", "y"}
            arrays = {name: file[name] for name in sorted(names & used)}
    except DataError:
        raise
    # numpy parses a header that the file wrote, and every decompressor has errors of its own.
    except Exception as error:
        raise _damaged(path, error) from None
    blocks = _blocks(path, arrays)
    return list_arrays(path.stem, str(path), blocks, layout=layout, ignored=tuple(sorted(names - set(arrays))))


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"data {path}",
        f"damaged, or arrays of Python objects ({type(error).__name__}: {str(error)[:200]})",
        _EXPECTED,
        "save it again with numpy.savez, with arrays of numbers or of fixed-length text",
    )


def _blocks(path: Path, arrays: dict[str, np.ndarray]) -> dict[str | None, tuple[np.ndarray, np.ndarray]]:
    got = ", ".join(arrays) or "none of these names"
    given = {name for name in arrays if "_" in name}
    if bool(given) == bool(arrays.keys() & {"x", "y"}):
        raise DataError(f"data {path}", got, _EXPECTED, "numpy.savez(path, x=images, y=labels)")
    blocks: dict[str | None, tuple[np.ndarray, np.ndarray]] = {}
    for split in ("train", "val", "test") if given else (None,):
        x, y = (f"{axis}_{split}" if split else axis for axis in "xy")
        if (x in arrays) != (y in arrays):
            raise DataError(f"data {path}", got, f"both {x} and {y}", "save the missing array too")
        if x in arrays:
            blocks[split] = (arrays[x], arrays[y])
    return blocks
