"""`model.too-small`: does all that the network knows pass through too few units?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.variants import tried
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
"""Of the samples right, where no wider layer can be tried: a network that gets more is not held up."""
_BATCH_NORM = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class _Narrow:
    """`width` numbers a sample is all that goes from the layer `before` to the layer `behind`."""

    width: int
    before: str
    behind: str
    between: tuple[str, ...]


def run(evidence: Evidence) -> Iterator[Finding]:
    graph = evidence.graph
    if graph.error is not None or graph.end is None:
        raise NoEvidence("the step fails")
    needed = _needed(evidence)
    narrow = _narrowest(graph, graph.end)
    if narrow is None or narrow.width >= needed:
        return
    change = Change(prepare=lambda replica: _widen(replica, narrow))
    remedy = tried(evidence, "wider", change) if _can_widen(evidence.fresh.model, narrow) else None
    if remedy is not None and not remedy.better:
        return
    if remedy is None and _share_right(evidence) > POOR:
        return
    classes = "" if not evidence.setup.classifies else f" for {several(evidence.classes, 'class', 'classes')}"
    numbers = "value per sample passes" if narrow.width == 1 else "values per sample pass"
    yield Finding(
        code=CODE,
        severity="error" if remedy is not None else "warning",
        where=python_name(narrow.before),
        measured=f"only {narrow.width} {numbers} from {python_name(narrow.before)} to "
        f"{python_name(narrow.behind)}{classes}"
        f"{'' if remedy is None else remedy.said(f'with {WIDE} of them')}",
        threshold=f"{math.ceil(needed)} units or more: that many on/off units can tell the classes apart"
        if evidence.setup.classifies
        else "2 units or more",
        why="No later layer can bring back the information that is lost there.",
        remedy=f"Make {python_name(narrow.before)} wider: {WIDE} instead of {narrow.width} (and the input of "
        f"{python_name(narrow.behind)}).",
    )


def _needed(evidence: Evidence) -> float:
    """Units that are on or off and tell the classes apart: log₂ of their number; for numbers, more than one."""
    if evidence.setup.classifies:
        return math.log2(evidence.classes)
    if not evidence.setup.measures:
        raise NoEvidence(f"the task is {evidence.setup.task}: a narrow layer may be its purpose")
    return 2.0


def _narrowest(graph: CallGraph, end: int) -> _Narrow | None:
    """The narrowest place between two layers with weights, of those that everything passes."""
    weights = {call.index for call in graph.weights}
    path = [call for call in graph.bottlenecks(end) if call.shape]
    last = max((place for place, call in enumerate(path) if call.index in weights), default=-1)
    start = next((place for place, call in enumerate(path) if call.index in weights), len(path))
    found: tuple[int, int] | None = None
    inputs = min((math.prod(call.shape[1:]) for call in path[:start]), default=math.inf)
    if start < len(path) and path[start].input_shapes:
        inputs = min(inputs, math.prod(path[start].input_shapes[0][1:]))
    for place in range(start, last):
        width = math.prod(path[place].shape[1:])
        if len(path[place].shape) > 1 and width < inputs and (found is None or width < found[0]):
            found = (width, place)
    if found is None:
        return None
    width, place = found
    before = [call for call in path[: place + 1] if call.index in weights]
    behind = next(call for call in path[place + 1 :] if call.index in weights)
    between = _modules_between(graph, before[-1], behind)
    return _Narrow(width, before[-1].module.lstrip("*") or "forward", behind.module.lstrip("*") or "forward", between)


def _modules_between(graph: CallGraph, first: Call, last: Call) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(call.module for call in graph.calls[first.index + 1 : last.index] if call.inside and call.module)
    )


def _can_widen(model: nn.Module, narrow: _Narrow) -> bool:
    parts = dict(model.named_modules())
    return all(isinstance(parts.get(name), _LAYERS) for name in (narrow.before, narrow.behind))


def _widen(replica: Replica, narrow: _Narrow) -> None:
    """Put wider layers in the stead of the two, and of the batch norms between them. What cannot be widened fails in
    the trial's first step."""
    parts = dict(replica.model.named_modules())
    before, behind = parts.get(narrow.before), parts.get(narrow.behind)
    old = before.out_features if isinstance(before, nn.Linear) else getattr(before, "out_channels", 0)
    if not old:
        return
    torch.manual_seed(0)
    fresh: list[nn.Module] = []
    for name in (narrow.before, *narrow.between, narrow.behind):
        made = _wider(parts[name], int(old), name == narrow.before, behind is parts[name])
        if made is not None:
            parent, _, last = name.rpartition(".")
            setattr(replica.model.get_submodule(parent), last, made)
            fresh.append(made)
    like = next(replica.model.parameters())
    new = [parameter for part in fresh for parameter in part.to(like.device, like.dtype).parameters()]
    replica.optimizer.add_param_group({"params": new})


def _wider(part: nn.Module, old: int, before: bool, behind: bool) -> nn.Module | None:
    if isinstance(part, nn.Linear):
        out = WIDE if before else part.out_features
        into = part.in_features // old * WIDE if behind else part.in_features
        return nn.Linear(into, out, part.bias is not None)
    if isinstance(part, nn.modules.conv._ConvNd) and part.groups == 1:
        kind: type[nn.Module] = type(part)
        out = WIDE if before else part.out_channels
        into = WIDE if behind else part.in_channels
        return kind(into, out, part.kernel_size, part.stride, part.padding, part.dilation, 1, part.bias is not None)
    if isinstance(part, _BATCH_NORM) and part.num_features == old:
        norm: type[nn.Module] = type(part)
        return norm(WIDE)
    return None


def _share_right(evidence: Evidence) -> float:
    try:
        return evidence.after.accuracy
    except NoEvidence:
        return 0.0


TOO_SMALL = Check(
    codes=(CODE,),
    question="Does all information pass through too few units?",
    run=run,
    quick=False,
    explains=("model.collapsed model.dead-units model.receptive-field model.vanishing-gradient optim.lr-too-low fit.*"),
)
