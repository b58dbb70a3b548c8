"""SVHN's cropped digits (http://ufldl.stanford.edu/housenumbers): train_32x32.mat and test_32x32.mat.

They are MATLAB 5 files (MAT-File Format, MathWorks), whose types and sizes are all checked here. SciPy's reader does
not check them: a damaged file can crash the program.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from math import prod
from pathlib import Path

import numpy as np

from striate.data.listing import Listing
from striate.data.sources.arrays import list_arrays
from striate.data.sources.tree import Tree, read_file, read_required, too_much, unpacked_limit
from striate.errors import DataError
from striate.wording import several

_MATRIX, _COMPRESSED = 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}


class TooLarge(ValueError):
    """Arrays that are declared, or unpacked, to more than the limit."""


def read_arrays(data: bytes, names: Collection[str], limit: int) -> dict[str, np.ndarray]:
    """The arrays of the file with these `names`, in MATLAB's shapes.

    Raises TooLarge for more than `limit` bytes, ValueError or zlib.error for a damaged or other file.
    """
    orders = {b"IM": "<", b"MI": ">"}
    if data[126:128] not in orders:
        raise ValueError("not a MATLAB 5 file")
    order = orders[data[126:128]]
    found: dict[str, np.ndarray] = {}
    left = limit
    for kind, body in _elements(memoryview(data)[128:], order, padded=False):
        if kind == _COMPRESSED:
            unpacked = _unpack(body, order, left)
            left -= len(unpacked)
            kind, body = next(_elements(unpacked, order), (0, body))
        if kind == _MATRIX:
            name, values = _array(body, order, names, limit)
            if values is not None:
                found[name] = values
    return found


def _elements(data: memoryview, order: str, *, padded: bool = True) -> Iterator[tuple[int, memoryview]]:
    """Type and content of each element, one after the other; `padded` to eight bytes within a matrix."""
    place = 0
    while place + 8 <= len(data):
        kind, size = (int(n) for n in np.frombuffer(data[place : place + 8], f"{order}u4"))
        start = place + 8
        if kind >> 16:  # up to four bytes are stored in the tag
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
        end = start + size
        if end > len(data) or (start == place + 4 and size > 4):
            raise ValueError(f"an element of {several(size, 'byte')} where {len(data) - start:,} are left")
        yield kind, data[start:end]
        place = max(place + 8, -(-end // 8) * 8 if padded else end)


def _unpack(body: memoryview, order: str, limit: int) -> memoryview:
    """The compressed element; no more is unpacked than its tag declares."""
    stream = zlib.decompressobj()
    out = bytearray(stream.decompress(body, 8))
    if len(out) < 8:
        raise ValueError("a compressed element without a tag")
    whole = 8 + int(np.frombuffer(out, f"{order}u4", 1, 4)[0])
    if whole > limit:
        raise TooLarge
    while len(out) < whole and (block := stream.decompress(stream.unconsumed_tail, min(1 << 20, whole - len(out)))):
        out += block
    return memoryview(out)


def _array(body: memoryview, order: str, names: Collection[str], limit: int) -> tuple[str, np.ndarray | None]:
    """The name of an array, and its values if it is one of `names`."""
    parts = _elements(body, order)
    flags, sizes, title = (next(parts, (0, body[:0]))[1] for _ in range(3))
    name = bytes(title).decode("latin-1")
    if name not in names:
        return name, None
    shape = tuple(int(n) for n in np.frombuffer(sizes, f"{order}i4"))
    meaning = int(np.frombuffer(flags[:4], f"{order}u4")[0])
    stored, content = next(parts, (0, body[:0]))
    kind = meaning & 0xFF
    if kind not in _CLASSES or meaning & 0x800 or stored not in _STORED:
        raise ValueError(f"{name} is not an array of real numbers")
    if min(shape, default=0) < 0 or len(shape) < 2 or prod(shape) * int(_CLASSES[kind][1]) > limit:
        raise TooLarge
    values = np.frombuffer(content, order + _STORED[stored])
    if len(values) != prod(shape):
        raise ValueError(f"{several(len(values), 'number')} for {name} of shape {shape}")
    return name, values.reshape(shape, order="F").astype(_CLASSES[kind], copy=False)


_SPLITS = {"train_32x32.mat": "train", "test_32x32.mat": "test"}


def holds_svhn(tree: Tree) -> bool:
    """Whether SVHN's training file is directly under the root."""
    return "train_32x32.mat" in tree.loose()


def list_svhn(tree: Tree) -> Listing:
    """Both files of a folder; the extra set is left out, and listed in `ignored`. Raises DataError."""
    used = [file for file in tree.loose() if file in _SPLITS]
    blocks: dict[str | None, tuple[np.ndarray, np.ndarray]] = {
        _SPLITS[file]: _parse(read_required(tree, file), f"{tree.where}/{file}") for file in used
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
    limit = unpacked_limit(len(data), in_memory=True)
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
