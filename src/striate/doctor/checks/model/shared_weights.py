"""`model.shared-weights`: does the network use the same layer several times by mistake?"""

from __future__ import annotations

import copy
from collections.abc import Iterator

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.unused_parameters import shapes_of, unused
from striate.doctor.checks.model.variants import gain_text, try_change
from striate.doctor.evidence.call_graph import CallGraph, TracedModule
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.reached_objects import parameters_held
from striate.doctor.setup.replicas import Replica
from striate.records import Finding
from striate.wording import listed_names, several

CODE = "model.shared-weights"
_BATCH_NORM = nn.modules.batchnorm._BatchNorm
_SMALL = (nn.PReLU, nn.RNNCellBase, nn.RNNBase)


def run(evidence: Evidence) -> Iterator[Finding]:
    model, graph = evidence.setup.model, evidence.graph
    for places in repeated(model):
        calls = [call for call in graph.modules if call.name in places]
        if _in_a_row(graph, calls) or _same_input(calls):
            yield _repeated(evidence, places, len(calls))
            return
    yield from _called_again(evidence, graph)


def repeated(model: nn.Module) -> Iterator[list[str]]:
    """The names of each module with parameters that the network has under several names, or that shares all its
    parameters with other modules of its class."""
    places: dict[tuple[object, ...], list[str]] = {}
    for path, parent in model.named_modules():
        for name, child in parent._modules.items():
            parameters = () if child is None else tuple(id(p) for p in child.parameters())
            if parameters:
                places.setdefault((type(child), parameters), []).append(f"{path}.{name}".lstrip("."))
    shared = [names for names in places.values() if len(names) > 1 and not _one_in_another(names)]
    for names in shared:
        # A container and its only layer share all parameters: only the container counts.
        inner = any(other is not names and all(_within(name, other) for name in names) for other in shared)
        if not inner:
            yield names


def _within(name: str, places: list[str]) -> bool:
    return any(name.startswith(f"{place}.") for place in places)


def _one_in_another(names: list[str]) -> bool:
    return any(name != other and name.startswith(f"{other}.") for name in names for other in names)


def _in_a_row(graph: CallGraph, calls: list[TracedModule]) -> bool:
    """Whether a later call depends on the output of an earlier one."""
    for number, first in enumerate(calls):
        for later in calls[number + 1 :]:
            if first.output is not None and any(first.output in graph.ancestors(i) for i in later.inputs):
                return True
    return False


def _same_input(calls: list[TracedModule]) -> bool:
    inputs = [call.input_ids for call in calls if call.input_ids]
    return len(inputs) > 1 and len(set(inputs)) == 1


def _repeated(evidence: Evidence, places: list[str], calls: int) -> Finding:
    parameters = sum(p.numel() for p in evidence.setup.model.get_submodule(places[0]).parameters())
    change = Change(prepare=lambda replica: _separate(replica, places[1:]))
    remedy = try_change(evidence, "of their own", change)
    return Finding(
        code=CODE,
        severity="warning",
        where=listed_names(places),
        measured=f"{listed_names(places)} are the same layer, with {several(parameters, 'parameter')} instead of "
        f"{parameters * len(places):,} in {several(calls, 'call')}{gain_text(remedy, 'with weights of their own')}",
        threshold="one place for each layer, unless it gets other inputs in each place",
        why="`[layer] * 3` repeats the same object, and a layer that is assigned twice is not copied: all places "
        "share one set of weights.",
        remedy="Create each separately: `nn.Sequential(*[make_layer() for _ in range(3)])`, or `copy.deepcopy(layer)`.",
    )


def _separate(replica: Replica, places: list[str]) -> None:
    """Give each place its own copy of the layer."""
    known = parameters_held(replica.optimizer)
    for place in places:
        parent, _, name = place.rpartition(".")
        own = copy.deepcopy(replica.model.get_submodule(place))
        if any(id(p) in known for p in replica.model.get_submodule(place).parameters()):
            replica.optimizer.add_param_group({"params": list(own.parameters())})
        setattr(replica.model.get_submodule(parent), name, own)


def _called_again(evidence: Evidence, graph: CallGraph) -> Iterator[Finding]:
    """A layer that runs several times, one after the other, in one forward pass: where a layer of the same sizes never
    runs, or a batch norm follows different layers."""
    idle = _idle(evidence)
    by_name: dict[str, list[TracedModule]] = {}
    for call in graph.modules:
        if call.name and not call.name.startswith("*") and _learns(call.module):
            by_name.setdefault(call.name, []).append(call)
    for name, calls in by_name.items():
        if len(calls) < 2 or not _in_a_row(graph, calls):
            continue
        module = calls[0].module
        original = next((other for other, sizes in idle.items() if sizes == shapes_of(module) and other != name), "")
        if original:
            yield _instead_of(name, original, len(calls))
            return
        if isinstance(module, _BATCH_NORM) and module.track_running_stats and _between_differ(graph, calls):
            yield _norm_again(name, len(calls))
            return


def _idle(evidence: Evidence) -> dict[str, list[tuple[int, ...]]]:
    try:
        names = unused(evidence)
    except NoEvidence:
        return {}
    layers = dict.fromkeys(name.rpartition(".")[0] for name in names)
    return {layer: shapes_of(evidence.setup.model.get_submodule(layer)) for layer in layers if layer}


def _learns(module: nn.Module) -> bool:
    return not isinstance(module, _SMALL) and any(p.numel() > 1 for p in module.parameters())


def _between_differ(graph: CallGraph, calls: list[TracedModule]) -> bool:
    """Whether different weights precede each call; in a loop, they are the same."""
    preceding = []
    for call in calls:
        before = sorted(i for index in call.inputs for i in graph.ancestors(index) if i >= 0)
        weights = [graph.calls[i].parameters for i in before if graph.is_weights(graph.calls[i])]
        preceding.append(weights[-1] if weights else ())
    return len(set(preceding)) == len(preceding)


def _instead_of(name: str, original: str, calls: int) -> Finding:
    return Finding(
        code=CODE,
        severity="warning",
        where=name,
        measured=f"{name} runs {calls} times in a row, and {original}, a layer of the same sizes, never runs",
        threshold="one call of a layer per forward pass, unless it is called in a loop",
        why="Layers that run twice share their weights between two places.",
        remedy=f"In forward, call `self.{original}(x)` where `self.{name}(x)` is called again.",
    )


def _norm_again(name: str, calls: int) -> Finding:
    return Finding(
        code=CODE,
        severity="warning",
        where=name,
        measured=f"the batch norm {name} runs {calls} times in a forward pass, after different layers",
        threshold="one batch norm per layer",
        why="Its running statistics mix those of all these layers and fit none: predictions in evaluation mode differ "
        "from those in training.",
        remedy=f"Create one for each: `self.{name}2 = nn.BatchNorm2d(…)`.",
    )


SHARED_WEIGHTS = Check(
    codes=(CODE,),
    run=run,
    explains="fit.*",
)
