"""Where a picture may be written, checked before time is spent on what it would show."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from striate.errors import UsageError, pasted

_LONGEST = 200
"""Bytes of a file's name. Folders take 255; while a file is written, its name is some longer."""


def refuse_picture_path(
    path: Path, *, force: bool = False, endings: Collection[str] = (".png",), option: str = "--out"
) -> None:
    """Raise UsageError where no new file with one of these endings can be written to `path`, which came with `option`,
    `--out` or the name of an argument; `force` allows to overwrite one."""
    first = next(iter(endings))
    folder, there = _what_is_there(path, option, first)
    if path.suffix.lower() not in endings:
        # `.` and `/` are folders without a name.
        named = path.with_suffix(first) if path.name.strip(".") else path / f"out{first}"
        got = f"{path}, a file that ends in {path.suffix or 'nothing'}"
        raise UsageError(option, got, f"a file that ends in {_either(endings)}", _place(option, named))
    if folder or (there and not force):
        other = _place(option, path.with_stem(f"{path.stem}-2"))
        raise UsageError(
            str(path), "it exists already", "a new file", other if folder else f"--force overwrites it; or {other}"
        )
    if not path.absolute().parent.is_dir():
        raise UsageError(option, str(path), "a file in a folder that exists", f"mkdir -p {pasted(path.parent)}")


def _what_is_there(path: Path, option: str, ending: str) -> tuple[bool, bool]:
    """Whether it is a folder, and whether there is anything; UsageError for a path longer than the system takes."""
    try:
        folder, there, reason = path.is_dir(), path.exists(), "File name too long"
    except OSError as error:
        folder, there, reason = False, False, error.strerror or str(error)
    else:
        if len(os.fsencode(path.name)) <= _LONGEST:
            return folder, there
    got = f"{str(path)[:60]}…: {reason}"
    raise UsageError(
        option, got, f"a shorter path, its name of at most {_LONGEST} bytes", _place(option, Path(f"out{ending}"))
    ) from None


def _place(option: str, path: Path) -> str:
    """What to type: an option with its value, or what stands for an argument."""
    return f"{option} {pasted(path)}" if option.startswith("-") else f"write to {pasted(path)}"


def _either(endings: Collection[str]) -> str:
    *others, last = endings
    return f"{', '.join(others)} or {last}" if others else last
