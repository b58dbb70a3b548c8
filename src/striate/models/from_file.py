"""`path/to/file.py:function`: a network made by the user's code, which is RUN; free of torch until then."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from striate.errors import ModelError, StriateError
from striate.models.layer_strings.arguments import nearest
from striate.wording import listed

if TYPE_CHECKING:
    from torch import nn

LONGEST_SHOWN = 80


def names_file(text: str) -> bool:
    """Whether the text has the form `path/to/file.py:function`, or that without the function."""
    return ".py:" in text or text.endswith(".py")


def resolve_name(text: str) -> str:
    """A `path/to/file.py:function` with its path made absolute; any other text as it is. Reads nothing."""
    path_text, _, name = text.strip().rpartition(":")
    if not path_text.endswith(".py") or not name.isidentifier():
        return text
    try:
        return f"{Path(path_text).expanduser().absolute()}:{name}"
    except (OSError, RuntimeError):  # ~user does not exist, or the working directory was removed
        return text


def source_digest(text: str) -> str | None:
    """SHA-256, in hexadecimal, of the file of a `path/to/file.py:function`; None for any other name.

    Files that it imports are not included. Raises ModelError where there is no such file.
    """
    if not names_file(text):
        return None
    path, _ = _split(text)
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise _unreadable(text, error) from None


def build_from_file(text: str, input_shape: tuple[int, ...] | None, outputs: int | None) -> nn.Module:
    """The network that `function` of `file.py` returns; runs the file and the function.

    The function gets `input_shape` (without batch) and `classes` (number of outputs) if it has parameters with these
    names, or with the other names in `_GIVEN_TO`. What the code prints goes to stderr, as stdout is for the program's
    output. Raises ModelError where the file or function is missing, raises, or returns something else.
    """
    path, name = _split(text)
    with _importable(path.resolve().parent), redirect_stdout(sys.stderr):
        return call_factory(_function(_load(path, text), name, text), text, input_shape, outputs)


def call_factory(
    factory: Callable[..., Any], text: str, input_shape: tuple[int, ...] | None, outputs: int | None
) -> nn.Module:
    """The network that a class or a function makes, called with those arguments of `_GIVEN_TO` that it has parameters
    for; `text` is its name in messages. Raises ModelError where it is itself a network, requires other arguments,
    raises, or returns something else."""
    from torch import nn

    if isinstance(factory, nn.Module):
        # Each fold and each replica needs a network with weights of its own.
        path, _, name = text.rpartition(":")
        got = f"`{name}` is a network ({type(factory).__name__}), not a function that makes one"
        remedy = f"add `def make(): return {name}` to {path}, and write {path}:make"
        raise ModelError(text, got, "a function or a class that makes a network", remedy)
    with redirect_stdout(sys.stderr):
        made = _call(factory, _arguments(factory, text, input_shape, outputs), text)
    if not isinstance(made, nn.Module):
        name = getattr(factory, "__name__", text)
        got = f"`{name}` returned {type(made).__name__}"
        remedy = f"end the function with `return network`; {name} must return the module itself"
        raise ModelError(text, got, "a torch.nn.Module", remedy)
    return made


def refuse_changed_file(name: str, digest: str | None, remedy: str) -> None:
    """Raise ModelError where the file of a `file.py:function` does not have the SHA-256 `digest`; a digest of None is
    unknown. `remedy`: what to do instead of putting the old file back."""
    if digest not in (None, source_digest(name)):
        raise ModelError(
            f"model {name}",
            "a file that has changed since the run was started",
            f"the file with the SHA-256 {str(digest)[:12]}…",
            f"put the old file back, or {remedy}",
        )


def object_from_file(text: str) -> object:
    """The object of `file.py` whose name follows the colon, a class or a function; runs the file, calls nothing.

    What the code prints goes to stderr. Raises ModelError where the file or the name is missing, or the file raises.
    """
    path, name = _split(text)
    with _importable(path.resolve().parent), redirect_stdout(sys.stderr):
        return _function(_load(path, text), name, text)


def _split(text: str) -> tuple[Path, str]:
    """Path and name of the function; ModelError where there is no such file."""
    path_text, _, name = text.rpartition(":")
    if not path_text or not name.isidentifier():
        raise _no_function_name(text)
    try:
        path = Path(path_text).expanduser()
        if path.is_file():
            # Opening the file first reports missing permissions as such, not as an exception of the user's code.
            path.open("rb").close()
            return path.absolute(), name
        close = nearest(path.name, [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else [])
        remedy = f"write {path.with_name(close)}:{name}" if close else f"check the path, seen from {Path.cwd()}"
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreadable(text, error) from None
    raise ModelError(text, f"no file {path}", "a Python file", remedy)


def _no_function_name(text: str) -> ModelError:
    path, _, given = text.partition(".py")
    path, given = f"{path}.py", given.removeprefix(":")
    names = _functions_in(_parsed(Path(path)))
    close = nearest(given.partition("(")[0], names) or next(iter(names), "build")
    got = f"`{given[:40]}` after the colon" if given else "no function name"
    expected = "path/to/file.py:function, without arguments" + (f"; the file has {listed(names, 8)}" if names else "")
    return ModelError(text, got, expected, f"write {path}:{close}")


def refuse_missing_name(text: str) -> None:
    """Raise ModelError where nothing in the file has the name after the colon; the file is read, not run."""
    path, name = _split(text)
    module = _parsed(path)
    nodes = list(ast.walk(module))
    # Names that are defined, imported or assigned; string constants count too, as in globals()["make"] = …
    words = {getattr(node, key, None) for node in nodes for key in ("name", "asname", "id")}
    words |= {node.value for node in nodes if isinstance(node, ast.Constant)}
    names = _functions_in(module)
    if words & {name, "*"} or not names:
        return
    remedy = f"write {text.rpartition(':')[0]}:{nearest(name, names) or names[0]}"
    raise ModelError(text, f"no `{name}` in the file", f"one of {listed(names, 8)}", remedy)


def _parsed(path: Path) -> ast.Module:
    """The syntax tree of a file; an empty one where Python cannot parse it."""
    try:
        return ast.parse(path.expanduser().read_bytes())
    except (OSError, RuntimeError, ValueError, SyntaxError, RecursionError, MemoryError):
        return ast.Module([], [])


def _functions_in(module: ast.Module) -> list[str]:
    """Names of the functions that a file defines, then of its classes, without those that begin with an underscore."""
    kinds = ast.FunctionDef, ast.ClassDef
    names = [node.name for kind in kinds for node in module.body if isinstance(node, kind)]
    return [name for name in names if not name.startswith("_")]


def _unreadable(text: str, error: Exception) -> ModelError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    shown = text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"
    return ModelError(shown, f"a path that cannot be read: {reason}", "a Python file", "check its name and permissions")


def _load(path: Path, text: str) -> ModuleType:
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"striate_user_{path.stem}_{digest}", path)
    if spec is None or spec.loader is None:
        raise ModelError(text, f"{path} is not a Python file", "a file ending in .py", "rename it to end in .py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look up their module by name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise _raised(text, path, error, "running the file") from error
    return module


def _function(module: ModuleType, name: str, text: str) -> Callable[..., Any]:
    function = getattr(module, name, None)
    if callable(function):
        return function  # type: ignore[no-any-return]
    own = [k for k, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
    close = nearest(name, own) or (own[0] if own else None)
    got = f"`{name}` is not a function" if hasattr(module, name) else f"no function `{name}` in the file"
    path = text.rpartition(":")[0]
    remedy = f"write {path}:{close}" if close else f"add `def {name}(input_shape, classes): ...` to it"
    raise ModelError(text, got, "one of " + ", ".join(own) if own else "a function that returns a network", remedy)


_GIVEN_TO = {
    "input_shape": "input_shape",
    "classes": "classes",
    **dict.fromkeys(("num_classes", "n_classes", "outputs", "num_outputs", "n_outputs"), "classes"),
    **dict.fromkeys(("in_channels", "in_chans", "input_channels"), "channels"),
}
"""Parameter names of a function that makes a network, each with its value."""
_GIVEN_BY = {
    "classes": "add --classes 10 on the command line, or give classes to striate.build",
    **dict.fromkeys(
        ("input_shape", "channels"), "add --input 1x28x28 on the command line, or give input_shape to striate.build"
    ),
}


def _arguments(
    function: Callable[..., Any], text: str, input_shape: tuple[int, ...] | None, outputs: int | None
) -> dict[str, Any]:
    facts = {"input_shape": input_shape, "classes": outputs, "channels": input_shape and input_shape[0]}
    given = {name: facts[fact] for name, fact in _GIVEN_TO.items()}
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    accepting = any(p.kind is p.VAR_KEYWORD for p in parameters)
    by_name = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    taken = {*by_name, *(("input_shape", "classes") if accepting else ())}
    arguments = {k: v for k, v in given.items() if v is not None and k in taken}
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in variadic and p.name not in arguments]
    if needed:
        unknown = [name for name in needed if name not in given]
        name = getattr(function, "__name__", "")
        call = f"lambda: {name if name.isidentifier() else 'build'}({', '.join(f'{n}=…' for n in needed)})"
        remedy = f"give `{unknown[0]}` a default value" if unknown else _GIVEN_BY[_GIVEN_TO[needed[0]]]
        remedy += f", or pass all of them in Python: {call}"
        got = "required parameters " + ", ".join(needed)
        raise ModelError(text, got, "a function of input_shape, of classes, of both, or of nothing", remedy)
    return arguments


def _call(function: Callable[..., Any], arguments: dict[str, Any], text: str) -> object:
    try:
        return function(**arguments)
    except StriateError:
        raise
    except (Exception, SystemExit) as error:
        shown = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise _raised(text, file_of(function), error, f"calling it with ({shown})") from error


def file_of(function: Callable[..., Any]) -> Path | None:
    """The file of a user's code; None where there is no file."""
    with suppress(TypeError, OSError):  # a partial, or a class of a notebook
        return Path(inspect.getsourcefile(function) or "")
    return None


def _raised(text: str, path: Path | None, error: BaseException, doing: str) -> ModelError:
    """The error for an exception of the user's code; `path` is the file of the code, if there is one."""
    got, remedy = what_it_raised(text, path, error)
    return ModelError(text, got, f"{doing} without an exception", remedy)


def what_it_raised(text: str, path: Path | None, error: BaseException) -> tuple[str, str]:
    """The exception of a user's code, with the line in its file `path`; and the remedy."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    line = getattr(error, "lineno", None) or (frames[-1].lineno if frames else None)
    # The text of a syntax error ends with the line, which is added below.
    told = error.msg if isinstance(error, SyntaxError) else str(error)
    message = " ".join(told.split())[:300]
    got = f"{type(error).__name__}: {message}" + (f" (line {line})" if line else "")
    return got, f"correct line {line} of {path}" if line else f"correct {path or text}"


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """While the body runs, the file can import modules of its folder, as if it were run as a script."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
