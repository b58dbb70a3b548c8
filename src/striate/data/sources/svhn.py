"""SVHN's cropped digits (http://ufldl.stanford.edu/housenumbers): train_32x32.mat and test_32x32.mat."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from striate.data.listing import Listing
from striate.data.sources.arrays import list_arrays
from striate.data.sources.matlab import TooLarge, read_arrays
from striate.data.sources.tree import Tree, read_file, read_whole, too_much, unpacked_limit
from striate.errors import DataError

_SPLITS = {"train_32x32.mat": "train", "test_32x32.mat": "test"}


def holds_svhn(tree: Tree) -> bool:
    """Whether SVHN's training file lies directly under the root."""
    return "train_32x32.mat" in tree.loose()


def list_svhn(tree: Tree) -> Listing:
    """Both files of a folder; the extra set is left out, and named among the ignored files. Raises DataError."""
    used = [file for file in tree.loose() if file in _SPLITS]
    blocks: dict[str | None, tuple[np.ndarray, np.ndarray]] = {
        _SPLITS[file]: _parse(read_whole(tree, file), f"{tree.where}/{file}") for file in used
    }
    ignored = tuple(sorted(set(tree.files) - set(used) | set(tree.hidden)))
    return list_arrays(tree.name, tree.where, blocks, layout="NHWC", ignored=ignored, notes=tree.notes)


def list_svhn_file(path: Path) -> Listing:
    """One .mat file, without given splits. Raises DataError."""
    try:
        data = read_file(path)
    except OSError as error:
        raise DataError(f"data {path}", str(error), "a file that can be read", "check the file") from None
    return list_arrays(path.stem, str(path), {None: _parse(data, str(path))}, layout="NHWC")


def _parse(data: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    limit = unpacked_limit(len(data))
    try:
        content = read_arrays(data, ("X", "y"), limit)
        x_HWCN, y = content["X"], content["y"].reshape(-1)
        right = x_HWCN.ndim == 4 and x_HWCN.dtype == np.uint8 and x_HWCN.shape[2] == 3 and y.dtype.kind in "iu"
        got = f"X of shape {x_HWCN.shape} {x_HWCN.dtype}, y of type {y.dtype}"
    except TooLarge:
        raise too_much(where, limit, len(data)) from None
    except (ValueError, KeyError, IndexError, zlib.error) as error:
        right, got = False, f"{type(error).__name__}: {str(error)[:200]}"
    if not right:
        raise DataError(
            where,
            got,
            "a MATLAB 5 file with X, (32, 32, 3, N) uint8, and y, N labels from 1 to 10",
            "get the file again from http://ufldl.stanford.edu/housenumbers",
        )
    # The digit 0 is published as class 10.
    return np.moveaxis(x_HWCN, -1, 0), y.astype(np.int64) % 10
