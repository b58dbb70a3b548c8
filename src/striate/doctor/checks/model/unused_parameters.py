"""`model.unused-parameters`: are there parameters that are never used?"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.heads import python_path
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding
from striate.wording import listed_names, several

_CODE = "model.unused-parameters"


def _find_unused_parameters(evidence: Evidence) -> Iterator[Finding]:
    names = unused(evidence)
    if not names:
        return
    parameters = dict(evidence.setup.model.named_parameters())
    layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    numbers = sum(parameters[name].numel() for name in names)
    total = sum(parameter.numel() for parameter in parameters.values())
    twice = _called_twice(evidence, layers)
    hint = f" Should it run where {twice} runs a second time?" if twice else ""
    yield Finding(
        code=_CODE,
        severity="warning",
        where=listed_names(layers),
        measured=f"{several(len(names), 'parameter')} of {listed_names(layers)} ({numbers:,} of "
        f"{several(total, 'value')}) are used neither in a training step nor in evaluation",
        threshold="none: registered parameters are meant to be used",
        why=f"A layer that is created in __init__ and never called learns nothing.{hint}",
        remedy=f"Call it in forward, `x = {python_path(layers[0], 'self')}(x)`, or delete it.",
    )


def unused(evidence: Evidence) -> list[str]:
    """Names of parameters that require a gradient, but that no call uses. Raises NoEvidence where the step fails."""
    graph = evidence.graph
    if graph.error is not None:
        raise NoEvidence("the step fails")
    if not graph.used:
        raise NoEvidence("the step does not use the network that was given")
    used = graph.used | evidence.prediction_graph.used
    gradients, changed = evidence.first.gradients, evidence.trial.changed
    return [
        name
        for name, parameter in evidence.setup.model.named_parameters()
        if parameter.requires_grad
        and name not in used | changed
        and gradients.get(name) is None
        # A parameter with two names is used under one of them.
        and not _used_elsewhere(evidence, parameter, used)
    ]


def _used_elsewhere(evidence: Evidence, parameter: nn.Parameter, used: frozenset[str]) -> bool:
    return any(
        other is parameter and name in used
        for name, other in evidence.setup.model.named_parameters(remove_duplicate=False)
    )


def _called_twice(evidence: Evidence, layers: list[str]) -> str:
    """A layer that runs more than once and has the sizes of an unused layer; empty where there is none."""
    model = evidence.setup.model
    counts: dict[str, int] = {}
    for call in evidence.graph.modules:
        counts[call.name] = counts.get(call.name, 0) + 1
    for idle in layers:
        sizes = shapes_of(model.get_submodule(idle)) if idle in dict(model.named_modules()) else None
        for name, count in counts.items():
            if count > 1 and sizes and not name.startswith("*") and shapes_of(model.get_submodule(name)) == sizes:
                return name
    return ""


def shapes_of(module: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(parameter.shape) for parameter in module.parameters()]


UNUSED_PARAMETERS = Check(
    codes=(_CODE,),
    run=_find_unused_parameters,
    explains="optim.parameters-missing",
)
