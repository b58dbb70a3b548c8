"""Which `file.py:name` may be run: what the user has named himself, never what only a file names.

A run and a configuration file say by name what network, task, loss, optimizer and transform they are of, and may come
from a stranger, with a file of code beside them. Code is run only where somebody typed its name: as an option, as
MODEL, in `striate trust`, or in a call of Python. That is remembered, by path and name, in the cache folder; from then
on runs that name it are loaded without asking.
Classes and functions that a call of Python gives: the names under which a configuration speaks of them.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from striate.errors import ConfigError, ModelError, RunError, StriateError, pasted
from striate.machine.cache import cache_folder
from striate.machine.memory import ran_out
from striate.models.from_file import file_of, names_file, object_from_file, resolve_name, source_digest, what_it_raised

_GIVEN = "given in Python: "
MODULE_GIVEN = f"a module {_GIVEN}"
_objects: dict[str, object] = {}


def is_given(name: str) -> bool:
    """Whether a configuration names something that was given in Python, which no file names."""
    return name.startswith((_GIVEN, MODULE_GIVEN))


def name_of(value: object) -> str:
    """The name of `value` in a configuration, by which this process finds it again; of a text the text itself."""
    if isinstance(value, str):
        return value
    for name, known in _objects.items():
        if known is value:
            return name
    whose = getattr(value, "__name__", None) or type(value).__name__
    name, number = f"{_GIVEN}{whose}", 2
    while name in _objects:  # another one, such as the class of a notebook's cell that was run again
        name, number = f"{_GIVEN}{whose} ({number})", number + 1
    _objects[name] = value
    return name


def given(name: str) -> object | None:
    """What was given under this name; None where that was in another process."""
    return _objects.get(name)


def give_as(name: str, value: object) -> None:
    """Let `value` be what a run calls `name`: it was given when the run was trained, in another process."""
    _objects[name] = value


_named: set[str] = set()
_ran: dict[tuple[str, str | None], object] = {}


def trust_named(model: object) -> None:
    """Note that the user has named this code himself; nothing for what is no `file.py:name`."""
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


def refuse_untrusted(model: object, where: str, input_shape: Sequence[int], outputs: int | None) -> None:
    """Raise ModelError where `model`, which only the file `where` names, is code that the user has not named; for
    inputs of `input_shape` and so many `outputs`, which the remedy names."""
    if not isinstance(model, str) or is_named(model):
        return
    name = _whole(model)
    form = f"--input {'x'.join(map(str, input_shape))}" + (f" --classes {outputs}" if outputs else "")
    raise ModelError(
        where,
        f"a network that is code: {name}, which would be run",
        "code that you have allowed before, since runs and configurations may come from others",
        f"read that file; if you trust it, name it once: striate summary {pasted(name)} {form}",
    )


def refuse_unnamed_code(name: str, what: str, where: str) -> None:
    """Raise RunError where `what` (a task, a loss) is code that only the file `where` names, not the user."""
    if is_named(name):
        return
    raise RunError(
        where,
        f"{what} that is code: {_whole(name)}, which would be run",
        "code that you have allowed before, since runs and configurations may come from others",
        f"read that file; if you trust it, name it once: striate trust {pasted(_whole(name))}",
    )


def names_code(name: str) -> bool:
    """Whether a field of the configuration stands for code: of a file, or given in Python."""
    return names_file(name) or is_given(name)


def trusted_code(name: str, what: str, argument: str, digest: str | None = None) -> object:
    """What `name` stands for: what a file has under it, which RUNS the file, once in each state; or what was given in
    Python. `what` says what it is ("a task"), `argument` by which argument it is given; `digest` is that
    of the file where it is known, which is then not read again.

    Raises RunError for code of a file that the user has not named, and for what was given in another process;
    ModelError where the file or the name is missing.
    """
    if is_given(name):
        value = given(name)
        if value is None:
            raise RunError(
                argument,
                f"{what} {name}",
                "the same object again, since no file has it",
                _given_again(argument),
            )
        return value
    refuse_unnamed_code(name, what, argument)
    state = name, digest or source_digest(name)
    if state not in _ran:
        _ran[state] = object_from_file(name)
    return _ran[state]


def call_own(field: str, name: str, function: Callable[..., Any], *arguments: object) -> Any:
    """What the user's code gives, which `field` of the configuration names. Raises ConfigError, with the line of the
    user's file, where it raises something of its own."""
    try:
        return function(*arguments)
    except StriateError:
        raise
    except Exception as error:
        if ran_out(error):
            raise
        got, remedy = what_it_raised(name, file_of(function), error)
        raise ConfigError(field, f"{got} from {name}", "code that raises no exception", remedy) from error


def _given_again(argument: str) -> str:
    """How a call of Python gives it: what predicts takes some arguments, what trains all of them."""
    loaded = f"striate.load(path, {argument}=…), then the same call; " if argument in ("task", "loss", "module") else ""
    trained = f"striate.train(config=path, {argument.replace('module', 'model')}=…) trains again"
    resumed = f"striate.api.resume(path, {argument}=…) continues a run"
    return f"in Python: {loaded}{resumed}, {trained}; or train with file.py:name"


def take_as(saved: str, value: object, argument: str) -> None:
    """Let a run that speaks of `saved` have `value`, which a call of Python gives as `argument`; nothing for None.

    A text names code of a file, which may be run from now on. Raises RunError where the run has no such thing.
    """
    if value is None:
        return
    if isinstance(value, str):
        trust_named(value)
    elif is_given(saved):
        give_as(saved, value)
    elif name_of(value) != saved:
        raise RunError(argument, f"one for a run that has {saved}", "the run's own", f"leave out {argument}=")


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
