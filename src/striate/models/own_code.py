"""Which `file.py:function` may be run: what the user has named himself, never what only a file names.

A run and a configuration file say by name what network they are of, and both may come from a stranger, with a file of
code beside them. Code is run only where somebody typed its name: as `--model`, as MODEL, or in a call of Python. That
is remembered, by path and function, in the cache folder; from then on runs that name it are loaded without asking.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from striate.errors import ModelError, RunError, pasted
from striate.machine.cache import cache_folder
from striate.models.from_file import names_file, resolve_name

_named: set[str] = set()


def remember_named(model: object) -> None:
    """Note that the user has named this network himself; nothing for what is no `file.py:function`."""
    if not isinstance(model, str) or not names_file(model):
        return
    name = _whole(model)
    _named.add(name)
    file = _note(name)
    # Where nothing can be written it is asked again next time.
    with suppress(OSError):
        if file is None or file.exists():
            return
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".")
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(name + "\n")
        Path(temporary).replace(file)


def refuse_unnamed(model: object, where: str, input_shape: Sequence[int], outputs: int | None) -> None:
    """Raise ModelError where `model`, which only the file `where` names, is code that the user has not named; for
    inputs of `input_shape` and so many `outputs`, which the remedy names."""
    if not isinstance(model, str) or is_named(model):
        return
    name = _whole(model)
    form = f"--input {'x'.join(map(str, input_shape))}" + (f" --classes {outputs}" if outputs else "")
    raise ModelError(
        where,
        f"a network that is code: {name}, which would be run",
        "code that you have named yourself before, since a run or a configuration may come from somebody else",
        f"read that file; if you trust it, name it once: striate summary {pasted(name)} {form}",
    )


def refuse_unnamed_task(task: str, where: str) -> None:
    """Raise RunError where a task that only the file `where` names is code that the user has not named."""
    if is_named(task):
        return
    raise RunError(
        where,
        f"a task that is code: {_whole(task)}, which would be run",
        "code that you have named yourself before, since a run or a configuration may come from somebody else",
        f"read that file; if you trust it, name it once: striate train digits --task {pasted(_whole(task))}",
    )


def is_named(text: str) -> bool:
    """Whether the text names no code, or code that the user has named himself."""
    if not names_file(text):
        return True
    name = _whole(text)
    file = _note(name)
    return name in _named or (file is not None and _is_mine(file))


def _whole(model: str) -> str:
    path, _, function = resolve_name(model).rpartition(":")
    with suppress(OSError, RuntimeError, ValueError):
        path = str(Path(path).resolve())  # what a link points to may be exchanged
    return f"{path}:{function}"


def _note(name: str) -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / "code" / hashlib.sha256(name.encode(errors="replace")).hexdigest()[:32]


def _is_mine(file: Path) -> bool:
    """Whether the note was written by this user (or by root): the cache may lie where others write too."""
    try:
        status = file.lstat()
    except OSError:
        return False
    return not hasattr(os, "geteuid") or status.st_uid in (os.geteuid(), 0)
