"""A patient's double: network, optimizer, loss and step copied together, so that their ties are kept."""

from __future__ import annotations

import copy
import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Dataset, Sampler

from striate.doctor.patient.patient import Loss, Patient, Step
from striate.doctor.patient.reach import global_names, reached_objects, written_by_user
from striate.models.tensors import tensors_in
from striate.models.untouched import copying_explained

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_SHARED = (DataLoader, Dataset, Sampler, types.ModuleType, type)


@dataclass(frozen=True)
class Double:
    """What trials are made on. `optimizer` works on the parameters of `model`; `names`: of parameters, by identity;
    `twins`: the original parameters, by name."""

    model: nn.Module
    optimizer: Optimizer
    loss: Loss
    step: Step
    names: dict[int, str]
    twins: dict[str, nn.Parameter]


def make_double(patient: Patient) -> Double:
    """A copy of everything that training touches; closures and globals of the step hold the copies too.

    Raises ModelError where the network cannot be copied.
    """
    memo: dict[int, Any] = {}
    for thing in reached_objects((patient.step, patient.loss)):
        if isinstance(thing, _SHARED):  # data are read only, and too large for copies
            memo[id(thing)] = thing
    with copying_explained(patient.model):
        model = _copied_module(patient.model, memo)
    rebind, given = _Rebinding(memo), patient.optimizer
    optimizer = copy.deepcopy(given, memo) if isinstance(given, Optimizer) else rebind(given)(model.parameters())
    loss, step = rebind(patient.loss), rebind(patient.step)
    for part in model.modules():
        if isinstance(vars(part).get("forward"), types.FunctionType):  # replaced on the object itself
            vars(part)["forward"] = rebind(vars(part)["forward"])
        for table in (vars(part).get(name) for name in _HOOKS):
            for key, hook in list((table or {}).items()):
                cast("dict[Any, Any]", table)[key] = rebind(hook)
    _copy_gradient_hooks(patient.model, model, rebind)
    names = {id(parameter): name for name, parameter in model.named_parameters(remove_duplicate=False)}
    return Double(model, optimizer, loss, step, names, dict(patient.model.named_parameters()))


def _copy_gradient_hooks(original: nn.Module, double: nn.Module, rebind: Callable[[Any], Any]) -> None:
    """Copying a tensor leaves its hooks out."""
    for parameter, twin in zip(original.parameters(), double.parameters(), strict=True):
        hooks = list((parameter._backward_hooks or {}).values())
        if twin.requires_grad and twin is not parameter and not twin._backward_hooks:
            for hook in hooks:
                twin.register_hook(rebind(hook))


def _copied_module(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    for part in module.modules():
        # A result of an earlier pass that was kept as an attribute has a history, which torch does not copy.
        for tensor in tensors_in(
            [value for key, value in vars(part).items() if key not in ("_modules", "_parameters")]
        ):
            if not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().clone()
    return copy.deepcopy(module, memo)


class _Rebinding:
    """Makes functions of the user's work on copies: of what their closures, globals and bound objects hold."""

    def __init__(self, memo: dict[int, Any]) -> None:
        self.memo, self.made = memo, cast("dict[int, Any]", {})
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
        if isinstance(thing, _SHARED) or not _may_change(thing):
            return thing
        try:
            return copy.deepcopy(thing, self.memo)
        except Exception:  # a lock, a file, a generator: shared, and guarded where it is reached
            return thing

    def _function(self, function: types.FunctionType) -> Any:
        if not written_by_user(function.__module__):
            return function
        world = self.worlds.setdefault(id(function.__globals__), dict(function.__globals__))
        cells = tuple(types.CellType() for _ in function.__closure__ or ())
        double = types.FunctionType(function.__code__, world, function.__name__, function.__defaults__, cells)
        double.__kwdefaults__, double.__module__ = function.__kwdefaults__, function.__module__
        double.__dict__.update(function.__dict__)
        self.made[id(function)] = double  # before what it holds, which may hold it
        for cell, held in zip(cells, function.__closure__ or (), strict=True):
            try:
                cell.cell_contents = self(held.cell_contents)
            except ValueError:  # not filled yet
                continue
        original = function.__globals__
        for name in global_names(function.__code__) & original.keys():
            if world[name] is original[name]:
                world[name] = self(original[name])
        return double


def _may_change(thing: Any) -> bool:
    """Whether training may write into it."""
    if isinstance(thing, nn.Module | Optimizer | LRScheduler | torch.amp.GradScaler | list | dict | set | torch.Tensor):
        return True
    # Of callable objects only the user's own: a trainer; those of libraries are types, transforms, compiled functions.
    return hasattr(thing, "__dict__") and (not callable(thing) or written_by_user(type(thing).__module__))
