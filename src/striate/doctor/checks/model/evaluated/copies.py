"""Copies of the network that the step's code reaches."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from striate.doctor.setup.reached_objects import reached_objects
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import assigned, called
from striate.doctor.setup.training_setup import TrainingSetup

Kept = list[tuple[Any, dict[str, torch.Tensor]]]
"""Copies of a network, each with its tensors before a trial."""
Copies = Callable[[Replica], Iterator[tuple[Any, dict[str, torch.Tensor]]]]
_NEAR = 0.5
"""Of the size of a weight: so far from it, a list of tensors is none of copies."""


def copies_reached(replica: Replica, theirs: set[int]) -> Iterator[tuple[Any, dict[str, torch.Tensor]]]:
    """What the step's code reaches that has tensors of the network's names and shapes, beside the network; not the
    user's own (`theirs`), which methods still know by a name."""
    shapes = {name: tensor.shape for name, tensor in replica.model.named_parameters()}
    own = {id(part) for part in replica.model.modules()}
    for thing in reached_objects((replica.step,)):
        if id(thing) in own | theirs or not isinstance(thing, nn.Module | dict | list):
            continue
        tensors = named_tensors(thing, shapes)
        if isinstance(thing, list) and not _near_weights(tensors, replica.originals):
            continue  # gradients, offsets
        if any(tensor is replica.originals.get(name) for name, tensor in tensors.items()):
            continue
        if shapes and all(name in tensors and tensors[name].shape == shape for name, shape in shapes.items()):
            yield thing, tensors


def named_tensors(thing: Any, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """By name, without the `module.` that averages and wrappers put before it; what is listed has the `names` of the
    network's parameters, in order."""
    if isinstance(thing, list):
        known = list(names)
        return dict(zip(known, thing, strict=True)) if _are_listed(thing, len(known)) else {}
    pairs = thing.named_parameters() if isinstance(thing, nn.Module) else thing.items()
    return {str(name).removeprefix("module."): value for name, value in pairs if isinstance(value, torch.Tensor)}


def _near_weights(tensors: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether matrices and kernels are about those of the network, as a copy from before some steps is."""
    pairs = [(tensors[name], weight) for name, weight in weights.items() if name in tensors and weight.ndim > 1]
    return any(tensor.shape == w.shape and float((tensor - w).norm()) < _NEAR * float(w.norm()) for tensor, w in pairs)


def _are_listed(thing: list[Any], count: int) -> bool:
    return len(thing) == count and all(isinstance(part, torch.Tensor) for part in thing)


def are_kept_anew(source: ScriptSource | None) -> bool:
    """Whether a variable that holds a module's state is given another one elsewhere, or in a loop where a condition
    holds, as the best so far; or a method keeps one when it is called."""
    if source is None:
        return False
    states = {name for name, value in _dicts_by_name(source) if hasattr(value, "_metadata")}
    stores = [(target, value) for node in source.nodes(ast.Assign) for target, value in assigned(node)]
    named = [target for target, _ in stores if isinstance(target, ast.Name) and target.id in states]
    if len(named) > len({target.id for target in named}) or any(_is_chosen(source, target) for target in named):
        return True
    return any(
        isinstance(target, ast.Attribute)
        and any(called(part) == "state_dict" for part in ast.walk(value))
        and getattr(source.function_of(target), "name", "__init__") != "__init__"
        for target, value in stores
    )


def are_chosen(setup: TrainingSetup) -> bool:
    """Whether all variables that hold tensors of the network by name, `{k: v.clone() for k, v in state.items()}`, are
    the best so far."""
    if setup.source is None:
        return False
    source, names = setup.source, {name for name, _ in setup.model.named_parameters()}
    held = {name for name, v in _dicts_by_name(source) if names <= v.keys() and not hasattr(v, "_metadata")}
    stores = [t for node in source.nodes(ast.Assign) for t, _ in assigned(node) if isinstance(t, ast.Name)]
    return bool(held) and held <= {target.id for target in stores if _is_chosen(source, target)}


def _dicts_by_name(source: ScriptSource) -> Iterator[tuple[str, dict[Any, Any]]]:
    """The dictionaries that variables hold, also within another, as the weights in a checkpoint."""
    for name, value in source.names.items():
        held = [value, *value.values()] if isinstance(value, dict) else []
        yield from ((name, found) for found in held if isinstance(found, dict))


def _is_chosen(source: ScriptSource, name: ast.Name) -> bool:
    """Whether a variable is given its value again and again, under a condition; not once, `if ema is None`."""
    for part in source.enclosing(name):
        if isinstance(part, ast.For | ast.While | ast.FunctionDef):
            return False
        if isinstance(part, ast.If) and ast.unparse(part.test) not in (f"{name.id} is None", f"not {name.id}"):
            return bool(source.loops_of(part))
    return False


def show_modules(reached: list[Any]) -> bool:
    """Whether dictionaries of a module's state are among them that are its own memory, as in a checkpoint: they follow
    the module, and are none of their own."""
    held = {p.data_ptr() for thing in reached if isinstance(thing, nn.Module) for p in thing.parameters()}
    states = (thing.values() for thing in reached if isinstance(thing, dict) and hasattr(thing, "_metadata"))
    return any(isinstance(value, torch.Tensor) and value.data_ptr() in held for state in states for value in state)


def noted(copies: Iterable[tuple[Any, dict[str, torch.Tensor]]]) -> Iterator[tuple[Any, dict[str, torch.Tensor]]]:
    """The copies with their tensors as they are now."""
    for found, tensors in copies:
        yield found, {name: tensor.detach().clone() for name, tensor in tensors.items()}
