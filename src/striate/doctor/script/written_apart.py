"""Files that a watched script writes: kept apart in a temporary folder, from which it reads them again."""

from __future__ import annotations

import builtins
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import torch

from striate.doctor.evidence.own_run import EndScript

_folder: ContextVar[str | None] = ContextVar("_folder", default=None)
"""The temporary folder, while files are kept apart; not set in other threads than the script's."""
_EVENTS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "subprocess.Popen", "os.system", "socket.connect")


@contextmanager
def written_apart() -> Iterator[None]:
    """While the body runs, what the script writes by `open` or `torch.save` goes to a temporary folder, where it
    also finds it; it makes no folders. Any other change of a file, program or connection ends it by
    `EndScript`."""
    _set_up_guard()
    with tempfile.TemporaryDirectory(prefix="striate-", ignore_cleanup_errors=True) as folder:
        copies = _Copies(folder)
        wrappers: list[tuple[Any, str, Callable[..., Any]]] = [
            (builtins, "open", copies.opened),
            (io, "open", copies.opened),
            (torch, "save", copies.saved),
            (torch, "load", copies.found),
            (os, "stat", copies.found),
            (os, "mkdir", _no_folder),
        ]
        originals = [(owner, name, getattr(owner, name)) for owner, name, _ in wrappers]
        for owner, name, wrapped in wrappers:
            setattr(owner, name, wrapped(getattr(owner, name)))
        token = _folder.set(folder)
        try:
            yield
        finally:
            _folder.reset(token)
            for owner, name, original in originals:
                setattr(owner, name, original)


class _Copies:
    """The files that are kept apart, by the places where the script wants them."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._known: dict[str, str] = {}

    def opened(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`open`, of a copy where there is one, or the script writes."""

        def opening(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            return original(self._at(file, "r" if "x" in mode else mode), mode, *args, **kwargs)

        return opening

    def saved(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """`torch.save`, to a copy."""

        def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
            return original(obj, self._at(f, "w"), *args, **kwargs)

        return save

    def found(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A function that reads a file, as `torch.load` or, to find out whether it exists, `os.stat`: of a copy where
        there is one."""

        def read(file: Any, *args: Any, **kwargs: Any) -> Any:
            return original(self._at(file, "r"), *args, **kwargs)

        return read

    def _at(self, file: Any, mode: str) -> Any:
        """The copy of a file that is opened in this mode; the file itself where there is none and none is needed."""
        if not isinstance(file, str | bytes | os.PathLike):
            return file
        place = os.path.abspath(os.fsdecode(file))  # noqa: PTH100 — a link may lead to the user's files
        if place not in self._known and not set(mode).isdisjoint("wa+") and not _may_write(place):
            self._known[place] = str(Path(self._folder, str(len(self._known)), Path(place).name))
            Path(self._known[place]).parent.mkdir()
            if "w" not in mode and Path(place).exists():
                shutil.copyfile(place, self._known[place])
        return self._known.get(place, file)


def _no_folder(original: Callable[..., None]) -> Callable[..., None]:
    def mkdir(path: Any, *args: Any, **kwargs: Any) -> None:
        if _may_write(path):
            original(path, *args, **kwargs)

    return mkdir


@cache
def _set_up_guard() -> None:
    sys.addaudithook(_guard)  # permanent: audit hooks cannot be removed


def _guard(event: str, args: tuple[Any, ...]) -> None:
    if _folder.get() is None:
        return
    if event == "open":
        path, mode, flags = args
        writes = any(letter in (mode or "") for letter in "wax+") or flags & (os.O_WRONLY | os.O_RDWR)
        if writes and not isinstance(path, int) and not _may_write(path):
            raise EndScript
    if event in _EVENTS and not (event.startswith("os.") and event != "os.system" and _may_write(args[0])):
        raise EndScript


def _may_write(path: Any) -> bool:
    """Whether a path is none of the user's files: in the folder for temporary files, unless the script is or runs
    there; or an existing folder."""
    place = Path(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 — a link may lead to the user's files
    if place.parts[1:2] in (("dev",), ("proc",)) or "__pycache__" in place.parts or place.is_dir():
        return True
    if place.is_relative_to(_folder.get() or place / "nowhere"):
        return True
    own = (Path.cwd(), Path(sys.argv[0]).resolve().parent)
    return place.is_relative_to(tempfile.gettempdir()) and not any(place.is_relative_to(one) for one in own)
