"""Replicas of a setup: network, optimizer, loss and step are copied together, with their references to each other."""

from __future__ import annotations

import copy
import functools
import io
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from striate.doctor.setup.preserved_state import is_data
from striate.doctor.setup.reached_objects import (
    DATA,
    attributes_of,
    global_names,
    reached_objects,
    slots_of,
    written_by_user,
)
from striate.doctor.setup.recorded_iterators import RecordedIterator
from striate.doctor.setup.training_setup import Loss, Step, TrainingSetup
from striate.errors import UsageError, one_line
from striate.machine.memory import ran_out
from striate.models.preserved_state import copying_explained
from striate.observe.tensors import tensors_in

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_STEP_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
_DEEPEST = 4
_MOST_FRAMES = 100_000
"""Recursion limit while objects are copied: chains of thousands of objects need several frames for each."""
_SHARED = (*DATA, types.ModuleType, type, io.IOBase)


@dataclass(frozen=True)
class Replica:
    """A copy of the training setup on which trials are run."""

    model: nn.Module
    optimizer: Optimizer
    """Works on the parameters of `model`."""
    loss: Loss
    step: Step
    names: dict[int, str]
    """Names of the parameters of `model` by id."""
    originals: dict[str, nn.Parameter]
    """The parameters of the user's own network by name."""


def to_float32(replica: Replica) -> None:
    """Convert the weights, and the optimizer's state, to float32."""
    replica.model.float()
    for state in replica.optimizer.state.values():
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                state[key] = value.float()


@contextmanager
def _long_chains_copied() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _MOST_FRAMES))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


@_long_chains_copied()
def make_replica(setup: TrainingSetup) -> Replica:
    """A copy of everything that training changes. The closures and globals of the step are rebound to the copies.

    Raises ModelError where the network cannot be copied, UsageError where the optimizer or step cannot.
    """
    memo: dict[int, Any] = {}
    reached = reached_objects((setup.step, setup.loss))
    for thing in reached:
        if isinstance(thing, _SHARED) or _shares_attributes(thing):  # data are only read, and too large to copy
            memo[id(thing)] = thing
        elif isinstance(thing, RecordedIterator):
            memo[id(thing)] = memo[id(thing.iterator)] = thing.restarted()
    with copying_explained(setup.model):
        model = _copied_module(setup.model, memo)
    rebind, given = _Rebinding(memo), setup.optimizer
    optimizer = _copied_optimizer(given, memo) if isinstance(given, Optimizer) else _made(rebind(given), model)
    loss, step = rebind(setup.loss), rebind(setup.step)
    for part in model.modules():
        if isinstance(vars(part).get("forward"), types.FunctionType):  # replaced on the instance
            vars(part)["forward"] = rebind(vars(part)["forward"])
        for table in (vars(part).get(name) for name in _HOOKS):
            for key, hook in list((table or {}).items()):
                cast("dict[Any, Any]", table)[key] = rebind(hook)
    _copy_gradient_hooks(setup.model, model, rebind)
    for thing in (given, *reached):
        if isinstance(thing, Optimizer):
            give_step_hooks(thing, memo.get(id(thing)), rebind)
    names = {id(parameter): name for name, parameter in model.named_parameters(remove_duplicate=False)}
    return Replica(model, optimizer, loss, step, names, dict(setup.model.named_parameters()))


def _shares_attributes(thing: object) -> bool:
    """Whether all objects of its class share their attributes, as the states of Accelerate do; a copy would not."""
    table = getattr(thing, "__dict__", None)
    return table is not None and any(table is value for kind in type(thing).__mro__ for value in vars(kind).values())


def _made(make: Callable[[Any], Optimizer], model: nn.Module) -> Optimizer:
    expected = "a function of parameters that makes an Optimizer"
    remedy = "optimizer=lambda params: torch.optim.SGD(params, lr=0.1)"
    try:
        made = make(model.parameters())
    except Exception as error:  # in the user's function
        if ran_out(error):
            raise
        got = f"a function that raises {type(error).__name__}: {one_line(str(error))[:200]}"
        raise UsageError("optimizer", got, expected, remedy) from None
    if not hasattr(made, "param_groups"):
        raise UsageError("optimizer", f"a function that returns {one_line(repr(made))[:200]}", expected, remedy)
    return made


def _copied_optimizer(given: Optimizer, memo: dict[int, Any]) -> Optimizer:
    """A copy with all attributes, such as those of LBFGS and of optimizers that wrap others, which torch's
    `__getstate__` omits. Not with functions set on the instance: those of a scheduler refer to the original."""
    replica = copy.deepcopy(given, memo)
    if hasattr(vars(replica).get("step"), "_wrapped_by_lr_sched"):  # Accelerate's optimizer copies it
        del replica.step
    for name, value in vars(given).items():
        if name not in vars(replica) and not callable(value):
            setattr(replica, name, copy.deepcopy(value, memo))
    return replica


def give_step_hooks(optimizer: Optimizer, other: object, change: Callable[[Any], Any]) -> None:
    """Register an optimizer's step hooks, changed by `change`, with another optimizer; copying omits them."""
    for name in _STEP_HOOKS if isinstance(other, Optimizer) else ():
        for key, hook in list(getattr(optimizer, name, {}).items()):
            getattr(other, name, {})[key] = change(hook)


def _copy_gradient_hooks(original: nn.Module, replica: nn.Module, rebind: Callable[[Any], Any]) -> None:
    """Register the gradient hooks of parameters with their copies; copying omits them."""
    for parameter, copied in zip(original.parameters(), replica.parameters(), strict=True):
        hooks = list((parameter._backward_hooks or {}).values())
        if copied.requires_grad and copied is not parameter and not copied._backward_hooks:
            for hook in hooks:
                copied.register_hook(rebind(hook))


def _copied_module(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    for part in module.modules():
        # torch does not copy tensors with a graph, such as the result of an earlier pass in an attribute.
        for tensor in tensors_in(
            [value for key, value in vars(part).items() if key not in ("_modules", "_parameters")]
        ):
            if not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().clone()
    return copy.deepcopy(module, memo)


class _Rebinding:
    """Copies the user's functions, with closures, globals and bound objects that refer to copies."""

    def __init__(self, memo: dict[int, Any]) -> None:
        self.memo, self.made = memo, cast("dict[int, Any]", {})
        self.kept: list[Any] = []  # kept alive, since their ids are keys
        self.worlds: dict[int, dict[str, Any]] = {}

    def __call__(self, thing: Any) -> Any:
        if id(thing) in self.memo:
            return self.memo[id(thing)]
        if id(thing) in self.made:
            return self.made[id(thing)]
        if isinstance(thing, types.FunctionType):
            return self._function(thing)
        if isinstance(thing, types.MethodType):
            return types.MethodType(thing.__func__, self(thing.__self__))
        if isinstance(thing, functools.partial):
            words = {key: self(value) for key, value in thing.keywords.items()}
            return functools.partial(self(thing.func), *map(self, thing.args), **words)
        return self._value(thing)

    def _value(self, thing: Any) -> Any:
        if isinstance(thing, _SHARED) or is_data(thing) or not _may_change(thing):
            return thing
        tried = dict(self.memo)  # a failed copy leaves incomplete objects in it
        try:
            replica = (_copied_optimizer if isinstance(thing, Optimizer) else copy.deepcopy)(thing, tried)
        except Exception as error:
            if ran_out(error):
                raise
            return self._part_by_part(thing)
        # deepcopy keeps objects alive in an entry under the memo's own id, which the next dictionary may reuse.
        self.kept += tried.pop(id(tried), [])
        self.memo.update(tried)
        self._functions_in(replica, _DEEPEST)
        return replica

    def _functions_in(self, replica: Any, depth: int) -> None:
        """Rebind the user's functions in a copy, such as the handlers of an engine; `deepcopy` does not copy
        functions."""
        if not depth:
            return
        held: Any = replica
        if not isinstance(replica, list | dict):
            own = written_by_user(type(replica).__module__) and not isinstance(replica, nn.Module)
            held = getattr(replica, "__dict__", {}) if own else {}
        for key, value in list(enumerate(held) if isinstance(held, list) else held.items()):
            if isinstance(value, types.FunctionType | functools.partial):
                held[key] = self(value)
            elif isinstance(value, tuple) and any(isinstance(part, types.FunctionType) for part in value):
                held[key] = tuple(self(part) if isinstance(part, types.FunctionType) else part for part in value)
            else:
                self._functions_in(value, depth - 1)

    def _part_by_part(self, thing: Any) -> Any:
        """Copy what can be copied of a user's object that contains, for example, a lock or a file, or of a list or
        dictionary of such objects."""
        if hasattr(thing, "__next__") and not isinstance(thing, io.IOBase):
            raise UsageError(
                "step",
                f"it reads from a {type(thing).__name__}, which can be read only once",
                "a step that uses the batch it is given",
                "def step(model, batch, optimizer, loss): … instead of next(iterator)",
            )
        if isinstance(thing, tuple):
            parts = [self(part) for part in thing]
            return type(thing)(*parts) if hasattr(thing, "_fields") else tuple(parts)
        if type(thing) in (list, dict):
            return self._elements(thing)
        if not written_by_user(type(thing).__module__) or not hasattr(thing, "__dict__"):
            return thing
        replica = copy.copy(thing) if isinstance(thing, dict) else object.__new__(type(thing))
        self.memo[id(thing)] = replica
        self.kept.append(thing)
        for name, value in slots_of(thing).items():
            object.__setattr__(replica, name, self(value))
        for name, value in vars(thing).items():
            vars(replica)[name] = self(value)
        for name, value in thing.items() if isinstance(thing, dict) else ():
            replica[name] = self(value)
        return replica

    def _elements(self, thing: Any) -> Any:
        """A list or dictionary of the copied elements, such as callbacks that refer back to their trainer."""
        replica = self.memo[id(thing)] = type(thing)()  # before its contents, which may refer to it
        self.kept.append(thing)
        if isinstance(thing, list):
            replica.extend(map(self, thing))
        else:
            replica.update((key, self(value)) for key, value in thing.items())
        return replica

    def _function(self, function: types.FunctionType) -> Any:
        if not written_by_user(function.__module__):
            return function
        world = self.worlds.setdefault(id(function.__globals__), dict(function.__globals__))
        cells = tuple(types.CellType() for _ in function.__closure__ or ())
        replica = types.FunctionType(function.__code__, world, function.__name__, None, cells)
        self.made[id(function)] = replica  # before its contents, which may refer to it
        replica.__module__, replica.__qualname__ = function.__module__, function.__qualname__
        if function.__defaults__ is not None:
            replica.__defaults__ = tuple(map(self, function.__defaults__))
        if function.__kwdefaults__ is not None:
            replica.__kwdefaults__ = {name: self(value) for name, value in function.__kwdefaults__.items()}
        replica.__dict__.update({name: self(value) for name, value in vars(function).items()})
        for cell, held in zip(cells, function.__closure__ or (), strict=True):
            try:
                contents = held.cell_contents
            except ValueError:  # not filled yet
                continue
            cell.cell_contents = self(contents)
        original = function.__globals__
        for name in global_names(function.__code__) & original.keys():
            if world[name] is original[name]:
                world[name] = self(original[name])
        return replica


_CHANGING = (
    *(nn.Module, Optimizer, LRScheduler, torch.amp.GradScaler, torch.Tensor),
    *(np.ndarray, list, dict, set, deque, bytearray),
)


def _may_change(thing: Any) -> bool:
    """Whether training may change it."""
    if isinstance(thing, tuple):  # of a network and its optimizer, say; tensors in a tuple are data
        return any(_may_change(part) for part in thing if not isinstance(part, torch.Tensor | np.ndarray))
    if isinstance(thing, _CHANGING) or hasattr(thing, "__next__"):
        return True
    # Callable objects only of the user's classes, such as a trainer; others are types, transforms, compiled functions.
    return bool(attributes_of(thing)) and (not callable(thing) or written_by_user(type(thing).__module__))
