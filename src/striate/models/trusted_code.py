"""Trusted code: which `file.py:name` may run. The user must have named it; a name in a file is not enough.

A run or a configuration file names its network, task, loss, optimizer and transform, and may come from a stranger,
together with a file of code. Code runs only after the user has typed its name: as an option, as MODEL, in `striate
trust`, or in a call of Python. The cache folder records path and name; runs that name this code are then loaded without
a question.

Also here: the names in a configuration of classes and functions that a call of Python passes.
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
    """Whether a name in a configuration stands for an object passed in Python, which is in no file."""
    return name.startswith((_GIVEN, MODULE_GIVEN))


def name_of(value: object) -> str:
    """The name of `value` in a configuration, by which this process finds it again; a text is its own name."""
    if isinstance(value, str):
        return value
    for name, known in _objects.items():
        if known is value:
            return name
    whose = getattr(value, "__name__", None) or type(value).__name__
    name, number = f"{_GIVEN}{whose}", 2
    while name in _objects:  # taken by another object, such as the class of a notebook cell that has run again
        name, number = f"{_GIVEN}{whose} ({number})", number + 1
    _objects[name] = value
    return name


def given(name: str) -> object | None:
    """The object passed in Python that has this name; None where another process named it."""
    return _objects.get(name)


def give_as(name: str, value: object) -> None:
    """Give `value` the `name` that it has in a run which another process trained."""
    _objects[name] = value


_named: set[str] = set()
_ran: dict[tuple[str, str | None], object] = {}


def trust_named(model: object) -> None:
    """Record that the user has named this code; does nothing unless `model` is a `file.py:name`."""
    if not isinstance(model, str) or not names_file(model):
        return
    name = _whole(model)
    _named.add(name)
    file = _note(name)
    # If the record cannot be written, the user has to name the code again next time.
    with suppress(OSError):
        if file is None or file.exists():
            return
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".")
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(name + "\n")
        Path(temporary).replace(file)


def refuse_untrusted(model: object, where: str, input_shape: Sequence[int], outputs: int | None) -> None:
    """Raise ModelError where `model`, a name in the file `where`, is code that the user has not named. The remedy is a
    command with `input_shape` and `outputs`."""
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
    """Raise RunError where `what` (a task, a loss) is code that the file `where` names and the user has not named."""
    if is_named(name):
        return
    raise RunError(
        where,
        f"{what} that is code: {_whole(name)}, which would be run",
        "code that you have allowed before, since runs and configurations may come from others",
        f"read that file; if you trust it, name it once: striate trust {pasted(_whole(name))}",
    )


def names_code(name: str) -> bool:
    """Whether a name in a configuration stands for code, in a file or passed in Python."""
    return names_file(name) or is_given(name)


def trusted_code(name: str, what: str, argument: str, digest: str | None = None) -> object:
    """The object that `name` stands for: an object of a file, which RUNS the file, once for each content; or an object
    passed in Python. `what`: its role in messages ("a task"); `argument`: the argument that passes it; `digest`: the
    SHA-256 of the file if it is known, so that the file is not read again.

    Raises RunError for code of a file that the user has not named, and for an object passed in another process;
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
    """Call the user's code that `field` of the configuration names. Raises ConfigError, with the line of the user's
    file, where the code raises an exception other than a StriateError."""
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
    """The calls of Python that pass the object again: for prediction if possible, to resume, and to train again."""
    loaded = f"striate.load(path, {argument}=…), then the same call; " if argument in ("task", "loss", "module") else ""
    trained = f"striate.train(config=path, {argument.replace('module', 'model')}=…) trains again"
    resumed = f"striate.api.resume(path, {argument}=…) continues a run"
    return f"in Python: {loaded}{resumed}, {trained}; or train with file.py:name"


def take_as(saved: str, value: object, argument: str) -> None:
    """Use `value`, which a call of Python passes as `argument`, for the name `saved` of a run; None changes nothing.

    A text names code of a file, which is trusted from now on. Raises RunError where the run has no such argument.
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
    """Whether the text names no code, or code that the user has named."""
    if not names_file(text):
        return True
    name = _whole(text)
    file = _note(name)
    return name in _named or (file is not None and _is_mine(file))


def _whole(model: str) -> str:
    path, _, function = resolve_name(model).rpartition(":")
    with suppress(OSError, RuntimeError, ValueError):
        path = str(Path(path).resolve())  # the target of a link may be replaced
    return f"{path}:{function}"


def _note(name: str) -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / "code" / hashlib.sha256(name.encode(errors="replace")).hexdigest()[:32]


def _is_mine(file: Path) -> bool:
    """Whether this user (or root) wrote the note: other users may be able to write to the cache folder."""
    try:
        status = file.lstat()
    except OSError:
        return False
    return not hasattr(os, "geteuid") or status.st_uid in (os.geteuid(), 0)
