"""The objects that user code can reach: through attributes, lists, closures and the globals that functions name."""

from __future__ import annotations

import functools
import random
import sys
import sysconfig
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset, Sampler

_MOST, _DEEPEST, _LONGEST = 20_000, 9, 256
_PLAIN = (int, float, complex, str, bytes, type(None), type, types.ModuleType, np.generic)
RANDOM = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_TRAINED = (nn.Module, Optimizer, LRScheduler)
DATA = (DataLoader, Dataset, Sampler)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_STRIATE = str(Path(__file__).parents[2])
_STATELESS = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, types.CellType, tuple, frozenset)


def reached_objects(roots: Iterable[object]) -> list[object]:
    """The objects with state that can be reached from the roots, each once, in breadth-first order: networks,
    optimizers, schedulers, generators, short lists and dictionaries, tensors and arrays, objects of the user's classes.
    Loaders and data sets come last, without the tensors and arrays that they store. Long lists are data and are not
    followed."""
    found: dict[int, object] = {}
    near: deque[tuple[object, int]] = deque((root, 0) for root in roots)
    data: deque[tuple[object, int]] = deque()
    while near or data:
        thing, depth = (near or data).popleft()
        if id(thing) in found or isinstance(thing, _PLAIN) or depth > _DEEPEST:
            continue
        if len(found) >= _MOST and not isinstance(thing, _TRAINED):
            continue
        found[id(thing)] = thing
        for part in _parts(thing):
            (data if isinstance(part, DATA) else near).append((part, depth + 1))
    return [thing for thing in found.values() if not isinstance(thing, _STATELESS)]


def reached_values(names: Mapping[str, Any], deepest: int = 3) -> Iterator[Any]:
    """The values of variables, the attributes and items of these, and so on, `deepest` levels deep, each once."""
    seen, level = set[int](), list(names.values())
    for _ in range(deepest + 1):
        held: list[Any] = []
        for value in level:
            if id(value) in seen:
                continue
            seen.add(id(value))
            yield value
            if isinstance(value, list | tuple) and len(value) <= _LONGEST:
                held += value
            elif isinstance(value, dict) and len(value) <= _LONGEST:
                held += list(value.values())
            elif hasattr(value, "__dict__") and type(value).__module__ == "__main__":
                held += list(vars(value).values())
        level = held


def _parts(thing: object) -> Iterator[Any]:
    if isinstance(thing, (torch.Tensor, np.ndarray, *RANDOM)):
        return
    if isinstance(thing, types.FunctionType):
        yield from held_by(thing).values()
    elif isinstance(thing, types.MethodType):
        yield from (thing.__self__, thing.__func__)
    elif isinstance(thing, functools.partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, dict):
        yield from list(thing.values())[:_LONGEST]
    elif isinstance(thing, list | tuple | set | frozenset | deque):
        if len(thing) <= _LONGEST:
            yield from thing
    elif isinstance(thing, Optimizer):
        yield from (value for name, value in vars(thing).items() if name not in ("state", "param_groups"))
        yield from (p for group in thing.param_groups for p in group["params"])
    elif isinstance(thing, nn.Module):
        for part in thing.modules():  # all at the same depth, however deeply they are nested
            yield part
            yield from (v for name, v in vars(part).items() if name not in ("_parameters", "_buffers", "_modules"))
            yield from _named_by_methods(part)
    elif isinstance(thing, (LRScheduler, *DATA)) or _is_own(thing):
        skip = (torch.Tensor, np.ndarray) if isinstance(thing, DATA) else ()
        yield from (value for value in attributes_of(thing).values() if not isinstance(value, skip))
        yield from _named_by_methods(thing)


def _is_own(thing: object) -> bool:
    """Whether an object's class was written by the user."""
    return written_by_user(type(thing).__module__)


def _named_by_methods(thing: object) -> Iterator[Any]:
    """The globals that methods of a user's class name. A layer that `forward` uses as a global is no submodule."""
    for kind in type(thing).__mro__:
        if written_by_user(kind.__module__):
            functions = [value for value in vars(kind).values() if isinstance(value, types.FunctionType)]
            yield from (held for function in functions for held in held_by(function).values())


def reached_optimizers(names: Mapping[str, Any]) -> list[Optimizer]:
    """The optimizers that a script's variables hold, each once."""
    return list({id(value): value for value in reached_values(names) if isinstance(value, Optimizer)}.values())


def parameters_held(*optimizers: Optimizer) -> set[int]:
    """The ids of all parameters of the optimizers."""
    return {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}


def attributes_of(thing: object) -> dict[str, Any]:
    """All attributes of an object, in its `__dict__` or in slots."""
    return slots_of(thing) | dict(getattr(thing, "__dict__", {}))


def slots_of(thing: object) -> dict[str, Any]:
    """The attributes of an object in slots."""
    names = [name for kind in type(thing).__mro__ for name in _slots(kind)]
    return {name: getattr(thing, name) for name in names if hasattr(thing, name)}


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def users_frame() -> types.FrameType | None:
    """The innermost running frame of the user's code; None without one."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and not written_by_user(frame.f_globals.get("__name__")):
        frame = frame.f_back
    return frame


@functools.cache
def written_by_user(module: str | None) -> bool:
    """Whether a module, given by name, belongs neither to Python, nor to an installed library, nor to striate."""
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    if file is None:
        return module == "__main__" or (module or "builtins") not in sys.modules
    if file.startswith((*_LIBRARIES, _STRIATE)) or "site-packages" in Path(file).parts:
        return False
    return not _installed(Path(file).parent)


@functools.cache
def _installed(folder: Path) -> bool:
    """Whether a folder belongs to a package that was installed with `pip install --target`, next to its metadata."""
    places = (place for place in (folder, *folder.parents) if str(place) in sys.path)
    return any(any(place.glob("*.dist-info")) for place in places)


def held_by(function: types.FunctionType) -> dict[str, Any]:
    """The values that a user's function can reach besides its arguments, by name: its closure, the globals that it
    names, its defaults and its attributes. Empty for other functions."""
    if not written_by_user(function.__module__):
        return {}
    held: dict[str, Any] = {f"default {number}": value for number, value in enumerate(function.__defaults__ or ())}
    held |= function.__kwdefaults__ or {}
    held |= vars(function)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            held[name] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    for name in global_names(function.__code__):
        if name in function.__globals__:
            held.setdefault(name, function.__globals__[name])
    return held


def global_names(code: types.CodeType) -> set[str]:
    """The names that code, and functions defined in it, may look up as globals."""
    return set(code.co_names).union(*(global_names(c) for c in code.co_consts if isinstance(c, types.CodeType)))
