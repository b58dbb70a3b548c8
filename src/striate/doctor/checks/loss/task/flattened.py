"""Scores that are divided by a large number on their way from the last layer to the loss."""

from __future__ import annotations

import math

from striate.doctor.checks.loss.task.wrong import Wrong
from striate.doctor.checks.model.variants import tried
from striate.doctor.evidence.call_graph import QUOTIENTS, TIMES, Call
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial_variants import first_argument, replaced

_SMALL = 0.05
"""Temperatures of distillation, of contrastive losses and of attention's heads are nearer to 1."""


def flattened(evidence: Evidence) -> Wrong | None:
    """Scores that are made small by a constant, without which the network learns more in as many steps."""
    if not evidence.setup.classifies or not predicts_targets(evidence):
        return None
    try:
        found = _shrinks(evidence)
    except NoEvidence:
        return None
    if found is None:
        return None
    call, factor = found
    remedy = tried(evidence, "without a factor of the scores", replaced((call,), first_argument))
    if remedy is None or not remedy.better:
        return None
    where = f" (in {call.place})" if call.module else ""
    return Wrong(
        "error",
        f"the scores are multiplied by {factor:.3g} between the last layer and the loss{where}; without that "
        f"{remedy.text}",
        "With scores that hardly differ, all classes look equally likely: the loss stays near chance, and gradients "
        "are smaller by the same factor.",
        "pass the scores of the last layer to the loss, without a division: `criterion(model(x), y)`",
        limit=f"scores multiplied by {_SMALL:g} or less, and a smaller loss without that",
    )


def _shrinks(evidence: Evidence) -> tuple[Call, float] | None:
    """The product with a small number, or the quotient by a large one, of what the last weights give; its factor."""
    graph = evidence.graph
    if graph.root is None:
        return None
    behind = graph.ancestors(graph.root)
    weights = [call.index for call in graph.weights if call.index in behind]
    for call in graph.calls:
        factor = _factor(call)
        if factor is None or call.index not in behind or len(call.inputs) != 1 or len(call.shape) < 2:
            continue
        origin = graph.origin(call.inputs[0])
        if origin is not None and weights and max(weights) in graph.ancestors(origin.index) and 0 < factor <= _SMALL:
            return call, factor
    return None


def _factor(call: Call) -> float | None:
    """By what a call multiplies a tensor, where that is one number."""
    value = call.option(1, "other")
    if not isinstance(value, int | float) or isinstance(value, bool) or not value or not math.isfinite(value):
        return None
    if call.name in QUOTIENTS:
        return abs(1 / value)
    return abs(float(value)) if call.name in TIMES else None
