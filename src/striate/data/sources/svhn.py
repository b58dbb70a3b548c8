"""SVHN's cropped digits (http://ufldl.stanford.edu/housenumbers): train_32x32.mat and test_32x32.mat."""

from __future__ import annotations

import warnings
import zlib
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from striate.data.listing import Listing
from striate.data.sources.arrays import list_arrays
from striate.data.sources.tree import Tree, read_file, read_whole, too_much, unpacked_limit
from striate.errors import DataError

_COMPRESSED = 15
_ITEM_BYTES = {"uint8": 1, "int8": 1, "logical": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4, "single": 4}
_ITEM_BYTES |= {"uint64": 8, "int64": 8, "double": 8}
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
    from scipy.io import loadmat, whosmat  # a tenth of a second that only this form should cost

    try:
        limit = unpacked_limit(len(data))
        found = [entry for entry in whosmat(cast(Any, BytesIO(data))) if entry[0] in ("X", "y")]
        # Cells and structures nest, as deep as a file likes: scipy follows until the stack ends.
        if other := [kind for _, _, kind in found if kind not in _ITEM_BYTES]:
            raise ValueError(f"an array of the kind {other[0]}")
        declared = sum(prod(shape) * _ITEM_BYTES[kind] for _, shape, kind in found)
        # Both what is declared and what is there: scipy would make room for the one, and unpack the other.
        if declared > limit or _unpacked(data, limit) > limit:
            raise too_much(where, limit, len(data))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = loadmat(cast(Any, BytesIO(data)), variable_names=["X", "y"])
        x_HWCN, y = np.asarray(content["X"]), np.asarray(content["y"]).reshape(-1)
        right = x_HWCN.ndim == 4 and x_HWCN.dtype == np.uint8 and x_HWCN.shape[2] == 3 and y.dtype.kind in "iu"
        got = f"X of shape {x_HWCN.shape} {x_HWCN.dtype}, y of type {y.dtype}"
    except DataError:
        raise
    except Exception as error:  # damaged files raise anything
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


def _unpacked(data: bytes, limit: int) -> int:
    """How many bytes the compressed elements of a MATLAB 5 file unpack to, counted no further than past `limit`.

    Layout (MAT-File Format, MathWorks): 128 bytes of header, then elements, each with its type and its number of
    bytes as uint32 before it; type 15 is a zlib stream.
    """
    if data[126:128] not in (b"IM", b"MI"):  # version 4, where nothing is compressed
        return 0
    order: Literal["little", "big"] = "big" if data[126:128] == b"MI" else "little"
    total, place = 0, 128
    while place + 8 <= len(data) and total <= limit:
        kind, size = (int.from_bytes(data[at : at + 4], order) for at in (place, place + 4))
        if kind == _COMPRESSED:
            stream, rest = zlib.decompressobj(), data[place + 8 : place + 8 + size]
            while rest and total <= limit and not stream.eof:
                total += len(stream.decompress(rest, 1 << 20))
                rest = stream.unconsumed_tail
        place += 8 + size
    return total
