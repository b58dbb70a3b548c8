"""Pickles of plain containers and NumPy arrays, loaded without executing anything.

No class or function that a pickle names is called: arrays are rebuilt from inert records. Together they are no larger
than the pickle, so that a small file cannot allocate much memory.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from math import prod
from typing import Any, ClassVar

import numpy as np

from striate.errors import DataError
from striate.wording import several

Spend = Callable[[int], None]
"""Called with the bytes that are about to be allocated; raises UnpicklingError where they are too many."""

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

    def real(self, spend: Spend) -> np.ndarray:
        _version, shape, dtype, fortran, raw = self.state
        return _build(raw, dtype, shape, "F" if fortran else "C", spend)


def _build(raw: Any, dtype: Any, shape: Any, order: Any, spend: Spend) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or not all(type(n) is int for n in shape):
        raise pickle.UnpicklingError("an array without type or shape")
    real = dtype.real()
    spend(len(raw))
    data = raw.encode("latin1") if isinstance(raw, str) else bytes(memoryview(raw))
    if min(shape, default=0) < 0 or prod(shape) * real.itemsize != len(data):
        raise pickle.UnpicklingError(f"an array of shape {shape} in {several(len(data), 'byte')}")
    return np.frombuffer(data, real).reshape(shape, order="F" if _text(order) == "F" else "C")


class _Scalar:
    def __init__(self, dtype: Any, raw: Any = b"") -> None:
        self.dtype, self.raw = dtype, raw

    def real(self, spend: Spend) -> Any:
        return _build(self.raw, self.dtype, (1,), "C", spend)[0].item()


class _FromBuffer:
    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def real(self, spend: Spend) -> np.ndarray:
        raw, dtype, shape, order = self.parts
        return _build(raw, dtype, shape, order, spend)


class _NdArray:
    """Stands for numpy.ndarray, which a pickle names as an argument."""

    def __init__(self) -> None:
        raise pickle.UnpicklingError("an array made from scratch")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("latin1")
    # Not str(value): a small pickle may describe containers that are endless when printed.
    if not isinstance(value, str):
        raise pickle.UnpicklingError(f"a {type(value).__name__} where there should be text")
    return value


_KNOWN = {
    ("numpy", "ndarray"): _NdArray,
    ("numpy", "dtype"): _Dtype,
} | {
    (f"numpy.{core}.{module}", name): stand_in
    for core in ("core", "_core")
    for module, name, stand_in in (
        ("multiarray", "_reconstruct", _reconstruct),
        ("multiarray", "scalar", _Scalar),
        ("numeric", "_frombuffer", _FromBuffer),
    )
}


# The unpickler in Python, since the one in C always hashes keys: for nested tuples that share their parts, a file of a
# few bytes can take forever.
_Unpickler: Any = pickle._Unpickler


class _Inert(_Unpickler):
    dispatch: ClassVar[dict[int, Any]] = dict(_Unpickler.dispatch)

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self.spend = _budget(len(data))

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self.encode
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not a plain array or container")
        return _KNOWN[module, name]

    def encode(self, text: Any, encoding: Any = "latin1") -> bytes:
        # Python 3 writes bytes this way in protocol 2.
        if not isinstance(text, str) or _text(encoding) not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("text in an unusual encoding")
        self.spend(len(text))
        return text.encode("latin1")

    def persistent_load(self, _pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to an object outside the file")

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], (_Array, _Dtype)):
            raise pickle.UnpicklingError("a state for what has none")
        super().load_build()

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        super().load_dict()

    def refuse_set(self) -> None:
        raise pickle.UnpicklingError("a set")

    def load_bytearray8(self) -> None:
        # Python would allocate the declared number of bytes before it checks that they exist.
        size = int.from_bytes(self.read(8), "little")
        self.spend(size)
        self.append(self.read(size))

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.EMPTY_SET[0]] = dispatch[pickle.FROZENSET[0]] = dispatch[pickle.ADDITEMS[0]] = refuse_set
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


def _check_keys(keys: list[Any]) -> None:
    for key in keys:
        if not isinstance(key, (str, bytes, int)):
            raise pickle.UnpicklingError(f"a key that is a {type(key).__name__}")


def load_plain(data: bytes, where: str) -> dict[str, Any]:
    """The dictionary in a pickle (protocols 0 to 5, also of Python 2), with text keys and NumPy arrays.

    Raises DataError for anything else, before any of it is executed.
    """
    try:
        value = _Inert(data).load()
        if not isinstance(value, dict):
            raise pickle.UnpicklingError(f"a {type(value).__name__}")
        known, spend = dict[int, Any](), _budget(len(data))
        return {_text(key): _real(item, known, spend) for key, item in value.items()}
    except Exception as error:  # damaged pickles raise anything
        raise DataError(
            where,
            f"a pickle that is damaged or not plain data ({str(error)[:200] or type(error).__name__})",
            "a dictionary of arrays, numbers and text, as in the published files",
            "get the file again from its official place; do not load it with anything else",
        ) from None


def _budget(limit: int) -> Spend:
    left = limit

    def spend(count: int) -> None:
        nonlocal left
        left -= count
        if left < 0:
            raise pickle.UnpicklingError("a description of more bytes than it has")

    return spend


def _real(item: Any, known: dict[int, Any], spend: Spend) -> Any:
    """The value of an item. Shared parts stay shared (`known`, by their id): nested lists that contain the same list
    twice would else grow exponentially."""
    if id(item) in known:
        return known[id(item)]
    if isinstance(item, (_Array, _Scalar, _FromBuffer)):
        known[id(item)] = item.real(spend)
        return known[id(item)]
    if isinstance(item, (list, tuple)):
        whole: list[Any] = []
        known[id(item)] = whole
        whole += [_real(part, known, spend) for part in item]
        return whole
    return _text(item) if isinstance(item, bytes) else item
