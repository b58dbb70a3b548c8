"""What user code can get hold of: followed through attributes, lists, closures and the globals that functions name."""

from __future__ import annotations

import functools
import random
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset, Sampler

_MOST, _DEEPEST, _LONGEST = 20_000, 9, 256
_PLAIN = (int, float, complex, str, bytes, type(None), type, types.ModuleType, np.ndarray, np.generic)
_RANDOM = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_FOLLOWED = (nn.Module, Optimizer, LRScheduler, DataLoader, Dataset, Sampler)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_STRIATE = str(Path(__file__).parents[2])


def reached_objects(roots: Iterable[object]) -> list[object]:
    """Each object with a state that can be reached from the roots, once: networks, optimizers, schedulers, generators,
    loaders, data sets, short lists and dictionaries, tensors of a step or a loss, objects of the user's own classes.
    Long lists are data and are not followed."""
    found: dict[int, object] = {}
    awaiting = [(root, 0) for root in roots]
    while awaiting and len(found) < _MOST:
        thing, depth = awaiting.pop()
        if id(thing) in found or isinstance(thing, _PLAIN) or depth > _DEEPEST:
            continue
        found[id(thing)] = thing
        awaiting += [(part, depth + 1) for part in _parts(thing)]
    return [thing for thing in found.values() if _has_state(thing)]


def _has_state(thing: object) -> bool:
    return not isinstance(
        thing, types.FunctionType | types.MethodType | types.BuiltinFunctionType | tuple | types.CellType
    )


def _parts(thing: object) -> Iterator[Any]:
    if isinstance(thing, (torch.Tensor, *_RANDOM)):
        return
    if isinstance(thing, types.FunctionType):
        yield from held_by(thing).values()
    elif isinstance(thing, types.MethodType):
        yield from (thing.__self__, thing.__func__)
    elif isinstance(thing, functools.partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, dict):
        yield from list(thing.values())[:_LONGEST]
    elif isinstance(thing, list | tuple | set | frozenset):
        if len(thing) <= _LONGEST:
            yield from thing
    elif isinstance(thing, Optimizer):
        yield from (p for group in thing.param_groups for p in group["params"])
    elif isinstance(thing, nn.Module):
        yield from (value for name, value in vars(thing).items() if name not in ("_parameters", "_buffers"))
    elif isinstance(thing, _FOLLOWED) or _is_own(thing):
        # Tensors and arrays of a data set are its data: they are read, and too large to be kept twice.
        skip = torch.Tensor if isinstance(thing, DataLoader | Dataset | Sampler) else ()
        yield from (value for value in getattr(thing, "__dict__", {}).values() if not isinstance(value, skip))


def _is_own(thing: object) -> bool:
    """Whether its class was written by the user, or may hold what was."""
    return hasattr(thing, "__dict__") and written_by_user(type(thing).__module__)


@functools.cache
def written_by_user(module: str | None) -> bool:
    """Whether a module, by its name, is neither Python's nor an installed library's, nor striate's own."""
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    if file is None:
        return module == "__main__" or (module or "builtins") not in sys.modules
    return not file.startswith((*_LIBRARIES, _STRIATE))


def held_by(function: types.FunctionType) -> dict[str, Any]:
    """What a function of the user's can reach besides its arguments, by name: its closure, and the globals it names."""
    if not written_by_user(function.__module__):
        return {}
    held: dict[str, Any] = {}
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
    """Names that code, and code within it, may look up among globals."""
    return set(code.co_names).union(*(global_names(c) for c in code.co_consts if isinstance(c, types.CodeType)))
