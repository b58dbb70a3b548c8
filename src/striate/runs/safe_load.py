"""Reads a file of `torch.save` without executing anything, and without taking more memory than the file has bytes.

`torch.load(weights_only=True)` runs no code, but it makes whatever a file describes: a few bytes of pickle can stand
for a huge buffer, a million copies of a list, or a tensor that repeats one number endlessly. So the pickle is read
first by an unpickler that makes nothing, and counts.
"""

from __future__ import annotations

import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Sized
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import torch

from striate.errors import RunError
from striate.runs.plain_files import open_plain
from striate.wording import several

_ZIP = b"PK\x03\x04"
_COPYING = frozenset(("OrderedDict", "Counter", "set", "bytearray", "Size"))
_PICKLES = 5  # in a file of torch's older format, before the numbers


def load_safely(path: Path, device: torch.device | str = "cpu") -> Any:
    """The content of a file of `torch.save` with only tensors and plain values.

    Raises OSError, MemoryError; RunError for anything but a plain file; HoldsCode; RuntimeError or UnpicklingError for
    files that are damaged, or ask for more memory than they have bytes.
    """
    try:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            refuse_bomb(file, size)
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of other pickles, which are refused anyway
                content = torch.load(file, map_location=device, weights_only=True)
        _refuse_swollen(content, size)
    except pickle.UnpicklingError as error:
        raise _without_advice(error) from None
    except (OSError, RunError, MemoryError, RuntimeError):
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from None
    return content


class HoldsCode(pickle.UnpicklingError):
    """A pickle names a class or function that no file of tensors needs; it was not run."""


def _without_advice(error: pickle.UnpicklingError) -> pickle.UnpicklingError:
    """The error with torch's reason alone: torch begins with the advice to load without `weights_only`, which would
    run what is refused here."""
    message = str(error)
    if not message.startswith("Weights only load failed"):
        return error
    if found := re.search(r"(?:GLOBAL|global|type) ([\w.]+\.[\w.]+)", message):
        return HoldsCode(f"a pickle with {found[1]}, which is code: it was not run")
    reason = message.partition("WeightsUnpickler error:")[2].strip().partition("\n")[0]
    return pickle.UnpicklingError(reason or "a pickle of something other than tensors")


def refuse_bomb(file: BinaryIO, size: int) -> None:
    """Read what a file of `torch.save` of `size` bytes describes, without making it. Raises UnpicklingError where that
    is larger than the file, and whatever a damaged file raises."""
    beginning = file.read(4)
    file.seek(0)
    if beginning != _ZIP:
        with suppress(EOFError):  # torch reports it
            for _ in range(_PICKLES):
                _Counting(file, size).load()
        return
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise pickle.UnpicklingError("compressed records, which torch does not write")
        if sum(member.file_size for member in members) > size:
            raise pickle.UnpicklingError("records that lie over one another")
        for member in members:
            if member.filename.endswith("/data.pkl"):
                _Counting(BytesIO(archive.read(member)), member.file_size).load()


class _Named:
    """Stands for a class or function: calling it makes nothing, and counts its arguments."""

    def __init__(self, name: str, reader: _Counting) -> None:
        self.name, self.reader = name, reader

    def __call__(self, *arguments: Any) -> _Named:
        if self.name.startswith("_rebuild_from_type"):  # calls its first argument
            _called(arguments[0], arguments[2])
        for value in arguments:
            # bytearray(number) makes so many zeros; anything with a length may be copied.
            number = value if self.name == "bytearray" and isinstance(value, int) else 1
            self.reader.spend(len(value) if isinstance(value, Sized) else number)
            if self.name in _COPYING:
                if isinstance(value, dict | _Named):
                    raise pickle.UnpicklingError(f"a copy as {self.name}")
                _refuse_hashing(value if isinstance(value, list | tuple) else ())
        return _Named("value", self.reader)


# The unpickler in Python, since the one in C always hashes keys.
_Unpickler: Any = pickle._Unpickler


class _Counting(_Unpickler):
    dispatch: ClassVar[dict[int, Any]] = dict(_Unpickler.dispatch)

    def __init__(self, file: Any, limit: int) -> None:
        super().__init__(file, encoding="bytes")
        self.left = limit

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise pickle.UnpicklingError("a description of more than the file has bytes")

    def find_class(self, _module: str, name: str) -> Any:
        return _Named(name, self)

    def persistent_load(self, _pid: Any) -> Any:
        return _Named("storage", self)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = _called(self.stack[-1], arguments)

    def load_reduce(self) -> None:
        self.load_newobj()

    def load_build(self) -> None:
        self.stack.pop()

    def load_setitem(self) -> None:
        _refuse_hashing(self.stack[-2:-1])
        del self.stack[-2:]

    def load_setitems(self) -> None:
        _refuse_hashing(self.pop_mark()[::2])

    def load_append(self) -> None:
        value = self.stack.pop()
        if isinstance(self.stack[-1], list):
            self.stack[-1].append(value)

    def load_appends(self) -> None:
        values = self.pop_mark()
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)

    def refuse(self) -> None:
        raise pickle.UnpicklingError("what torch does not write")

    dispatch[pickle.NEWOBJ[0]] = dispatch[pickle.REDUCE[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]], dispatch[pickle.SETITEMS[0]] = load_setitem, load_setitems
    dispatch[pickle.APPEND[0]], dispatch[pickle.APPENDS[0]] = load_append, load_appends
    for _code in (
        *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.DICT, pickle.LIST, pickle.INST, pickle.OBJ),
        *(pickle.NEWOBJ_EX, pickle.FROZENSET, pickle.ADDITEMS, pickle.EXT1, pickle.EXT2, pickle.EXT4),
    ):
        dispatch[_code[0]] = refuse


def _called(function: Any, arguments: Any) -> _Named:
    if not isinstance(function, _Named) or not isinstance(arguments, tuple):
        raise pickle.UnpicklingError("a call of something that is not a function")
    return function(*arguments)


def _refuse_hashing(keys: Any) -> None:
    """Raise UnpicklingError for a key that is a tuple of tuples: nested tuples that share parts take no space, but
    endless time to hash."""
    for key in keys:
        if isinstance(key, tuple) and not all(isinstance(part, str | bytes | int | float) for part in key):
            raise pickle.UnpicklingError("a key that is a tuple of tuples")


def _refuse_swollen(content: Any, limit: int) -> None:
    """Raise UnpicklingError for a tensor larger than the file, which strides can make of a few numbers."""
    seen: set[int] = set()
    left = [content]
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            if value.layout == torch.strided and value.numel() * value.element_size() > limit:
                raise pickle.UnpicklingError(f"a tensor of {several(value.numel(), 'number')} in {limit:,} bytes")
        elif isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value
