"""`model.too-small`: does all information pass through too few units?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.variants import accuracy_after, try_change
from striate.doctor.evidence.call_graph import Call, CallGraph
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.replicas import Replica
from striate.records import Finding
from striate.wording import python_name, several

CODE = "model.too-small"
WIDE = 32
_LAYERS = (nn.modules.conv._ConvNd, nn.Linear)
POOR = 0.6
"""Accuracy on training samples, above which the network is not held back, if no wider layer can be tried."""
_BATCH_NORM = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class _Bottleneck:
    """The narrowest connection between two layers with weights, which everything passes."""

    width: int
    """Values per sample that pass."""
    before: str
    """Name of the layer before it."""
    after: str
    """Name of the layer after it."""
    between: tuple[str, ...]
    """Names of the modules between the two."""


def run(evidence: Evidence) -> Iterator[Finding]:
    graph = evidence.graph
    if graph.error is not None or graph.end is None:
        raise NoEvidence("the step fails")
    needed = _needed(evidence)
    neck = _narrowest(graph, graph.end)
    if neck is None or neck.width >= needed:
        return
    change = Change(prepare=lambda replica: _widen(replica, neck))
    remedy = try_change(evidence, "wider", change) if _can_widen(evidence.fresh.model, neck) else None
    if remedy is not None and not remedy.better:
        return
    if remedy is None and accuracy_after(evidence) > POOR:
        return
    classes = "" if not evidence.setup.classifies else f" for {several(evidence.classes, 'class', 'classes')}"
    numbers = "value per sample passes" if neck.width == 1 else "values per sample pass"
    yield Finding(
        code=CODE,
        severity="error" if remedy is not None else "warning",
        where=python_name(neck.before),
        measured=f"only {neck.width} {numbers} from {python_name(neck.before)} to "
        f"{python_name(neck.after)}{classes}"
        f"{'' if remedy is None else remedy.gain_text(f'with {WIDE} of them')}",
        threshold=f"{math.ceil(needed)} units or more: that many on/off units can tell the classes apart"
        if evidence.setup.classifies
        else "2 units or more",
        why="No later layer can bring back the information that is lost there.",
        remedy=f"Make {python_name(neck.before)} wider: {WIDE} instead of {neck.width} (and the input of "
        f"{python_name(neck.after)}).",
    )


def _needed(evidence: Evidence) -> float:
    """The number of on/off units that can distinguish the classes, log₂ of the number of classes; for a regression 2.
    Raises NoEvidence for other tasks."""
    if evidence.setup.classifies:
        return math.log2(evidence.classes)
    if not evidence.setup.measures:
        raise NoEvidence(f"the task is {evidence.setup.task}: a narrow layer may be its purpose")
    return 2.0


def _narrowest(graph: CallGraph, end: int) -> _Bottleneck | None:
    """The narrowest bottleneck that is narrower than the inputs; None where there is none."""
    weights = {call.index for call in graph.weights}
    path = [call for call in graph.bottlenecks(end) if call.shape]
    last = max((place for place, call in enumerate(path) if call.index in weights), default=-1)
    start = next((place for place, call in enumerate(path) if call.index in weights), len(path))
    narrowest: tuple[int, int] | None = None
    inputs = min((math.prod(call.shape[1:]) for call in path[:start]), default=math.inf)
    if start < len(path) and path[start].input_shapes:
        inputs = min(inputs, math.prod(path[start].input_shapes[0][1:]))
    for place in range(start, last):
        width = math.prod(path[place].shape[1:])
        if len(path[place].shape) > 1 and width < inputs and (narrowest is None or width < narrowest[0]):
            narrowest = (width, place)
    if narrowest is None:
        return None
    width, place = narrowest
    before = [call for call in path[: place + 1] if call.index in weights][-1]
    after = next(call for call in path[place + 1 :] if call.index in weights)
    first, last_name = (call.module.lstrip("*") or "forward" for call in (before, after))
    return _Bottleneck(width, first, last_name, _modules_between(graph, before, after))


def _modules_between(graph: CallGraph, first: Call, last: Call) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(call.module for call in graph.calls[first.index + 1 : last.index] if call.inside and call.module)
    )


def _can_widen(model: nn.Module, neck: _Bottleneck) -> bool:
    parts = dict(model.named_modules())
    return all(isinstance(parts.get(name), _LAYERS) for name in (neck.before, neck.after))


def _widen(replica: Replica, neck: _Bottleneck) -> None:
    """Replace the two layers, and the batch norms between them, by wider ones. If other modules do not fit the new
    width, the trial fails in its first step."""
    parts = dict(replica.model.named_modules())
    before, after = parts.get(neck.before), parts.get(neck.after)
    old = before.out_features if isinstance(before, nn.Linear) else getattr(before, "out_channels", 0)
    if not old:
        return
    torch.manual_seed(0)
    fresh: list[nn.Module] = []
    for name in (neck.before, *neck.between, neck.after):
        wider = _wider(parts[name], int(old), name == neck.before, after is parts[name])
        if wider is not None:
            parent, _, last = name.rpartition(".")
            setattr(replica.model.get_submodule(parent), last, wider)
            fresh.append(wider)
    like = next(replica.model.parameters())
    new = [parameter for part in fresh for parameter in part.to(like.device, like.dtype).parameters()]
    replica.optimizer.add_param_group({"params": new})


def _wider(part: nn.Module, old: int, before: bool, after: bool) -> nn.Module | None:
    if isinstance(part, nn.Linear):
        out = WIDE if before else part.out_features
        into = part.in_features // old * WIDE if after else part.in_features
        return nn.Linear(into, out, part.bias is not None)
    if isinstance(part, nn.modules.conv._ConvNd) and part.groups == 1:
        kind: type[nn.Module] = type(part)
        out = WIDE if before else part.out_channels
        into = WIDE if after else part.in_channels
        return kind(into, out, part.kernel_size, part.stride, part.padding, part.dilation, 1, part.bias is not None)
    if isinstance(part, _BATCH_NORM) and part.num_features == old:
        norm: type[nn.Module] = type(part)
        return norm(WIDE)
    return None


TOO_SMALL = Check(
    codes=(CODE,),
    run=run,
    quick=False,
    explains=("model.collapsed model.dead-units model.receptive-field model.vanishing-gradient optim.lr-too-low fit.*"),
)
