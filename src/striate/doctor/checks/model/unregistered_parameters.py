"""`model.unregistered-parameters`: are there layers that are used, but that no module registers?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.variants import gain_text, try_change
from striate.doctor.evidence.call_graph import OutsideTensor
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.reached_objects import parameters_held
from striate.doctor.setup.replicas import Replica
from striate.records import Finding
from striate.wording import listed, several

_CODE = "model.unregistered-parameters"
_REGISTERED = ("_modules", "_parameters", "_buffers")
_DEEPEST = 4


def _find_unregistered_parameters(evidence: Evidence) -> Iterator[Finding]:
    held = dict(unregistered(evidence.fresh.model))
    graph = evidence.graph
    # A teacher that runs without gradients may be unregistered on purpose.
    learning = [
        s
        for s in graph.outside_tensors
        if any(graph.calls[i].output_requires_grad for i in s.calls if i < len(graph.calls))
    ]
    outside_tensors = [s for s in learning if _is_own(s, held)]
    if not outside_tensors:
        return
    untrained = [s for s in outside_tensors if not s.trained]
    if untrained:
        yield _untrained(evidence, untrained, held)
    else:
        yield _unsaved(outside_tensors, held)


def unregistered(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Modules, and tensors that require a gradient, that a network holds in plain attributes, lists and dictionaries
    without registering them; each with its place."""
    known = {id(part) for part in model.modules()} | {id(p) for p in model.parameters()}
    for path, part in model.named_modules():
        for name, value in vars(part).items():
            if name not in _REGISTERED:
                place = f"{path}.{name}".lstrip(".")
                yield from _held(value, place, known, 0)


def _held(value: Any, place: str, known: set[int], depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, nn.Module):
        if id(value) not in known and any(True for _ in value.parameters()):
            yield place, value
    elif isinstance(value, torch.Tensor):
        if id(value) not in known and value.requires_grad and value.is_leaf:
            yield place, value
    elif depth < _DEEPEST and isinstance(value, list | tuple | Mapping):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, part in pairs:
            yield from _held(part, f"{place}[{key!r}]", known, depth + 1)


def _is_own(outside: OutsideTensor, held: dict[str, Any]) -> bool:
    """Whether a tensor belongs to the network. One that is no nn.Parameter may be a state or an input that requires a
    gradient, so it counts only if an attribute holds it."""
    return (outside.is_parameter and outside.within) or _is_held(outside, held)


def _is_held(outside: OutsideTensor, held: dict[str, Any]) -> bool:
    shape = outside.tensor.shape
    return any(
        tensor.shape == shape
        for value in held.values()
        for tensor in (value.parameters() if isinstance(value, nn.Module) else (value,))
    )


def _untrained(evidence: Evidence, outside_tensors: list[OutsideTensor], held: dict[str, Any]) -> Finding:
    numbers = sum(s.tensor.numel() for s in outside_tensors)
    known = sum(p.numel() for p in evidence.fresh.model.parameters())
    temporary = any(s.recreated for s in outside_tensors)
    remedy = try_change(evidence, "with all registered", Change(prepare=_register)) if held and not temporary else None
    places = _containers(held)
    if temporary:
        where, measured = _where(outside_tensors), "they are created in every forward pass, random and never trained"
        fix = "Create the layers once, in __init__: `self.layer = nn.Linear(…)`, and call `self.layer(x)` in forward."
    elif places:
        where, measured = listed(places), "no step changes them"
        fix = f"Register them: `self.{places[0].rpartition('.')[2]} = nn.ModuleList([…])`; nn.ModuleDict for a "
        fix += "dictionary, nn.Parameter for a tensor; and create the optimizer after that."
    else:
        where, measured = _where(outside_tensors), "no step changes them"
        fix = "Make the layer an attribute of the network, in __init__, and create the optimizer after that."
    return Finding(
        code=_CODE,
        severity="error",
        where=where,
        measured=f"forward uses {several(len(outside_tensors), 'tensor')} with {several(numbers, 'trainable value')} "
        f"that are not in model.parameters() (which has {known:,}): {measured}"
        f"{gain_text(remedy, 'with all of them registered')}",
        threshold="none: model.parameters() contains each layer that forward uses",
        why="Only attributes that are modules, nn.ModuleList, nn.ModuleDict or nn.Parameter are registered. Everything "
        "else is not trained, not saved, and not moved by .to(device).",
        remedy=fix,
    )


def _unsaved(outside_tensors: list[OutsideTensor], held: dict[str, Any]) -> Finding:
    numbers = sum(s.tensor.numel() for s in outside_tensors)
    return Finding(
        code=_CODE,
        severity="note",
        where=listed(_containers(held)) or _where(outside_tensors),
        measured=f"{several(numbers, 'number is', 'numbers are')} trained, but not in model.parameters()",
        threshold="none",
        why="They are missing from model.state_dict(), and .to(device) does not move them.",
        remedy="Register them: nn.Parameter, nn.ModuleList or an attribute of their own.",
    )


def _containers(held: dict[str, Any]) -> list[str]:
    return list(dict.fromkeys(place.partition("[")[0] for place in held))


def _where(outside_tensors: list[OutsideTensor]) -> str:
    names = [s.inside[-1].lstrip("*") or "forward" for s in outside_tensors]
    return listed(list(dict.fromkeys(names)))


def _register(replica: Replica) -> None:
    known = parameters_held(replica.optimizer)
    tensors = [
        tensor
        for _, value in unregistered(replica.model)
        for tensor in (value.parameters() if isinstance(value, nn.Module) else (value,))
    ]
    fresh = {id(tensor): tensor for tensor in tensors if id(tensor) not in known}
    if fresh:
        replica.optimizer.add_param_group({"params": list(fresh.values())})


UNREGISTERED_PARAMETERS = Check(
    codes=(_CODE,),
    run=_find_unregistered_parameters,
    explains=(
        "model.collapsed model.mode model.redundant-filters model.unused-parameters "
        "model.vanishing-gradient optim.lr-too-high optim.lr-too-low optim.parameters-missing fit.*"
    ),
)
