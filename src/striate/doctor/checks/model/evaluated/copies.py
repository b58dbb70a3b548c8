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

CopyStates = list[tuple[Any, dict[str, torch.Tensor]]]
"""Copies of a network, each with its tensors before a trial."""
FindCopies = Callable[[Replica], Iterator[tuple[Any, dict[str, torch.Tensor]]]]
"""Returns the copies that a replica's step reaches, each with its current tensors."""
_NEAR = 0.5
"""Largest distance from a weight, as a share of its norm, at which a list of tensors may be a copy."""


def copies_reached(replica: Replica, originals: set[int]) -> Iterator[tuple[Any, dict[str, torch.Tensor]]]:
    """The modules, dictionaries and lists, other than the network, that the step's code reaches and that have tensors
    of the network's names and shapes; each with these tensors. `originals`: ids of the user's own objects, which are
    left out."""
    shapes = {name: tensor.shape for name, tensor in replica.model.named_parameters()}
    own = {id(part) for part in replica.model.modules()}
    for thing in reached_objects((replica.step,)):
        if id(thing) in own | originals or not isinstance(thing, nn.Module | dict | list):
            continue
        tensors = named_tensors(thing, shapes)
        if isinstance(thing, list) and not _near_weights(tensors, replica.originals):
            continue  # gradients, offsets
        if any(tensor is replica.originals.get(name) for name, tensor in tensors.items()):
            continue
        if shapes and all(name in tensors and tensors[name].shape == shape for name, shape in shapes.items()):
            yield thing, tensors


def named_tensors(thing: Any, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """The tensors of a module, dictionary or list by name, without the prefix `module.` of averages and wrappers; those
    of a list get the `names` of the network's parameters, in order."""
    if isinstance(thing, list):
        known = list(names)
        return dict(zip(known, thing, strict=True)) if _are_listed(thing, len(known)) else {}
    pairs = thing.named_parameters() if isinstance(thing, nn.Module) else thing.items()
    return {str(name).removeprefix("module."): value for name, value in pairs if isinstance(value, torch.Tensor)}


def _near_weights(tensors: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether a matrix or kernel is near that of the network, as in a copy from some steps before."""
    pairs = [(tensors[name], weight) for name, weight in weights.items() if name in tensors and weight.ndim > 1]
    return any(tensor.shape == w.shape and float((tensor - w).norm()) < _NEAR * float(w.norm()) for tensor, w in pairs)


def _are_listed(thing: list[Any], count: int) -> bool:
    return len(thing) == count and all(isinstance(part, torch.Tensor) for part in thing)


def are_saved_again(source: ScriptSource | None) -> bool:
    """Whether a variable that holds a module's state gets a new state in another place, or under a condition in a loop,
    as the best state so far; or a method stores a state in an attribute."""
    if source is None:
        return False
    states = {name for name, value in _dicts_by_name(source) if hasattr(value, "_metadata")}
    stores = [(target, value) for node in source.nodes(ast.Assign) for target, value in assigned(node)]
    named = [target for target, _ in stores if isinstance(target, ast.Name) and target.id in states]
    if len(named) > len({target.id for target in named}) or any(_is_conditional(source, target) for target in named):
        return True
    return any(
        isinstance(target, ast.Attribute)
        and any(called(part) == "state_dict" for part in ast.walk(value))
        and getattr(source.function_of(target), "name", "__init__") != "__init__"
        for target, value in stores
    )


def are_best_so_far(setup: TrainingSetup) -> bool:
    """Whether all variables that hold dictionaries of the network's tensors, such as `{k: v.clone() for k, v in
    state.items()}`, hold the best state so far."""
    if setup.source is None:
        return False
    source, names = setup.source, {name for name, _ in setup.model.named_parameters()}
    holding = {name for name, v in _dicts_by_name(source) if names <= v.keys() and not hasattr(v, "_metadata")}
    stores = [t for node in source.nodes(ast.Assign) for t, _ in assigned(node) if isinstance(t, ast.Name)]
    return bool(holding) and holding <= {target.id for target in stores if _is_conditional(source, target)}


def _dicts_by_name(source: ScriptSource) -> Iterator[tuple[str, dict[Any, Any]]]:
    """The dictionaries that variables hold, and the ones within these, such as the weights in a checkpoint."""
    for name, value in source.names.items():
        values = [value, *value.values()] if isinstance(value, dict) else []
        yield from ((name, inner) for inner in values if isinstance(inner, dict))


def _is_conditional(source: ScriptSource, name: ast.Name) -> bool:
    """Whether a loop assigns a variable under a condition other than that it is unset, as in `if ema is None`."""
    for part in source.enclosing(name):
        if isinstance(part, ast.For | ast.While | ast.FunctionDef):
            return False
        if isinstance(part, ast.If) and ast.unparse(part.test) not in (f"{name.id} is None", f"not {name.id}"):
            return bool(source.loops_of(part))
    return False


def share_memory(reached: list[Any]) -> bool:
    """Whether a state dictionary among these objects shares memory with a module, as in a checkpoint, so that it is no
    copy of its own."""
    memory = {p.data_ptr() for thing in reached if isinstance(thing, nn.Module) for p in thing.parameters()}
    states = (thing.values() for thing in reached if isinstance(thing, dict) and hasattr(thing, "_metadata"))
    return any(isinstance(value, torch.Tensor) and value.data_ptr() in memory for state in states for value in state)


def with_cloned_tensors(
    copies: Iterable[tuple[Any, dict[str, torch.Tensor]]],
) -> Iterator[tuple[Any, dict[str, torch.Tensor]]]:
    """The copies, each with clones of its current tensors."""
    for thing, tensors in copies:
        yield thing, {name: tensor.detach().clone() for name, tensor in tensors.items()}
