"""NumPy archives: x_train y_train x_test y_test, optional x_val y_val; or x y; groups beside each."""

from __future__ import annotations

import zipfile
from dataclasses import replace
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
            used = {f"{axis}{split}" for axis in ("x", "y", "groups") for split in ("", "_train", "_val", "_test")}
            arrays = {name: file[name] for name in sorted(names & used)}
            if other := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
                raise ValueError(f"{other[0]} is no array")  # numpy gives the bytes of what has no header of its own
    except DataError:
        raise
    # numpy parses a header that the file wrote, and every decompressor has errors of its own.
    except Exception as error:
        raise _damaged(path, error) from None
    blocks = _blocks(path, arrays)
    belonging = {f"groups_{split}" if split else "groups" for split in blocks}
    ignored = tuple(sorted(n for n in names if n not in arrays or (n.startswith("groups") and n not in belonging)))
    groups = _groups(path, arrays, blocks)
    return replace(list_arrays(path.stem, str(path), blocks, layout=layout, ignored=ignored), groups=groups)


def _groups(
    path: Path, arrays: dict[str, np.ndarray], blocks: dict[str | None, tuple[np.ndarray, np.ndarray]]
) -> tuple[str | None, ...]:
    """What each sample is of, in the order of the listing: by split; empty where the file has no groups."""
    found: list[str | None] = []
    for split in sorted(blocks, key=lambda name: name or ""):
        name, count = f"groups_{split}" if split else "groups", len(blocks[split][0]) if blocks[split][0].ndim else 0
        values = arrays.get(name)
        if values is None:
            found += [None] * count
        elif values.shape != (count,) or values.dtype.kind not in "iuUS":
            raise DataError(
                f"data {path}, {name}",
                f"an array of shape {values.shape} and type {values.dtype}",
                f"({count},) whole numbers or text, one for each sample",
                f"save {name} with one entry a sample, or leave it out",
            )
        else:
            found += [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values.tolist()]
    return tuple(found) if any(found) else ()


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"data {path}",
        f"damaged, or arrays of Python objects ({type(error).__name__}: {str(error)[:200]})",
        _EXPECTED,
        "save it again with numpy.savez, with arrays of numbers or of fixed-length text",
    )


def _blocks(path: Path, arrays: dict[str, np.ndarray]) -> dict[str | None, tuple[np.ndarray, np.ndarray]]:
    got = ", ".join(arrays) or "none of these names"
    given = {name for name in arrays if "_" in name and not name.startswith("groups")}
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
