"""Arrays of numbers in a MATLAB 5 file (MAT-File Format, MathWorks), read without trusting a byte of it.

SciPy's reader takes types and sizes from the file as they come: a damaged one ends the whole program.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from math import prod

import numpy as np

_MATRIX, _COMPRESSED = 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}


class TooLarge(ValueError):
    """What is described, or unpacked, is more than may be."""


def read_arrays(data: bytes, names: Collection[str], limit: int) -> dict[str, np.ndarray]:
    """The arrays of the file that have one of the `names`, in the shapes of MATLAB.

    Raises TooLarge for more than `limit` bytes, ValueError or zlib.error for what is no such file, or no such array.
    """
    orders = {b"IM": "<", b"MI": ">"}
    if data[126:128] not in orders:
        raise ValueError("no MATLAB 5 file")
    order = orders[data[126:128]]
    found: dict[str, np.ndarray] = {}
    left = limit
    for kind, body in _elements(memoryview(data)[128:], order, padded=False):
        if kind == _COMPRESSED:
            unpacked = _unpack(body, left)
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
        if kind >> 16:  # up to four bytes lie within the tag
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
        end = start + size
        if end > len(data) or (start == place + 4 and size > 4):
            raise ValueError(f"an element of {size:,} bytes where {len(data) - start:,} are left")
        yield kind, data[start:end]
        place = max(place + 8, -(-end // 8) * 8 if padded else end)


def _unpack(body: memoryview, limit: int) -> memoryview:
    stream = zlib.decompressobj()
    unpacked = stream.decompress(body, limit + 1)
    if len(unpacked) > limit:
        raise TooLarge
    return memoryview(unpacked)


def _array(body: memoryview, order: str, names: Collection[str], limit: int) -> tuple[str, np.ndarray | None]:
    """The name, and the values where it is one of `names`."""
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
        raise ValueError(f"{name} is no array of real numbers")
    if min(shape, default=0) < 0 or len(shape) < 2 or prod(shape) * int(_CLASSES[kind][1]) > limit:
        raise TooLarge
    values = np.frombuffer(content, order + _STORED[stored])
    if len(values) != prod(shape):
        raise ValueError(f"{len(values):,} numbers for {name} of shape {shape}")
    return name, values.reshape(shape, order="F").astype(_CLASSES[kind])
