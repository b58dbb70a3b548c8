"""Pickles of plain containers and NumPy arrays, loaded without executing anything.

No class or function that a pickle names is ever called: arrays are rebuilt from inert records of what it says.
"""

from __future__ import annotations

import io
import pickle
from math import prod
from typing import Any

import numpy as np

from striate.errors import DataError

_CODES = frozenset(("u1", "i1", "i2", "i4", "i8", "u2", "u4", "u8", "b1"))


class _Dtype:
    """A dtype as the pickle describes it: its code and byte order."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = _text(code).lstrip("|<>="), "="

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1]).replace("|", "=")

    def real(self) -> np.dtype:
        if self.code not in _CODES or self.order not in ("<", ">", "="):
            raise pickle.UnpicklingError(f"an array of type {self.code!r}")
        return np.dtype(self.order + self.code)


class _Array:
    """An array as the pickle describes it."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def real(self) -> np.ndarray:
        _version, shape, dtype, fortran, raw = self.state
        return _build(raw, dtype, shape, "F" if fortran else "C")


def _build(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
        raise pickle.UnpicklingError("an array without type or shape")
    real = dtype.real()
    data = raw.encode("latin1") if isinstance(raw, str) else bytes(memoryview(raw))
    if min(shape, default=0) < 0 or prod(shape) * real.itemsize != len(data):
        raise pickle.UnpicklingError(f"an array of shape {shape} in {len(data)} bytes")
    return np.frombuffer(data, real).reshape(shape, order="F" if _text(order) == "F" else "C")


class _Scalar:
    def __init__(self, dtype: Any, raw: Any = b"") -> None:
        self.dtype, self.raw = dtype, raw

    def real(self) -> Any:
        return _build(self.raw, self.dtype, (1,), "C")[0].item()


class _FromBuffer:
    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def real(self) -> np.ndarray:
        raw, dtype, shape, order = self.parts
        return _build(raw, dtype, shape, order)


class _NdArray:
    """Stands for numpy.ndarray where a pickle only names it."""

    def __init__(self) -> None:
        raise pickle.UnpicklingError("an array made from scratch")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    # Python 3 writes bytes this way in protocol 2.
    if not isinstance(text, str) or _text(encoding) not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("text in an unusual encoding")
    return text.encode("latin1")


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


_KNOWN = {
    ("numpy", "ndarray"): _NdArray,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
} | {
    (f"numpy.{core}.{module}", name): stand_in
    for core in ("core", "_core")
    for module, name, stand_in in (
        ("multiarray", "_reconstruct", _reconstruct),
        ("multiarray", "scalar", _Scalar),
        ("numeric", "_frombuffer", _FromBuffer),
    )
}


class _Inert(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not a plain array or container")
        return _KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"it refers to something outside, {_text(pid)[:80]}")


def load_plain(data: bytes, where: str) -> dict[str, Any]:
    """The dictionary in a pickle (protocols 0 to 5, also of Python 2), with text keys and NumPy arrays.

    Raises DataError for anything else, before any of it is executed.
    """
    try:
        value = _Inert(io.BytesIO(data), encoding="bytes").load()
        if not isinstance(value, dict):
            raise pickle.UnpicklingError(f"a {type(value).__name__}")
        return {_text(key): _real(item) for key, item in value.items()}
    except Exception as error:  # damaged pickles raise anything
        raise DataError(
            where,
            f"a pickle that is damaged or not plain data ({str(error)[:200] or type(error).__name__})",
            "a dictionary of arrays, numbers and text, as in the published files",
            "get the file again from its official place; do not load it with anything else",
        ) from None


def _real(item: Any) -> Any:
    if isinstance(item, (_Array, _Scalar, _FromBuffer)):
        return item.real()
    if isinstance(item, (list, tuple)):
        return [_real(part) for part in item]
    return _text(item) if isinstance(item, bytes) else item
