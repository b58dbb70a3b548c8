"""Scores that are divided by a large number between the last layer and the loss."""

from __future__ import annotations

import math

from striate.doctor.checks.loss.task.wrong import Wrong
from striate.doctor.checks.model.variants import try_change
from striate.doctor.evidence.call_graph import QUOTIENTS, TIMES, Call
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial_variants import first_argument, replaced

_SMALL = 0.05
"""Largest factor that is reported; those of distillation, of contrastive losses and of attention are nearer to 1."""


def scores_scaled_down(evidence: Evidence) -> Wrong | None:
    """Scores multiplied by a small constant, without which the network learns more in as many steps."""
    if not evidence.setup.classifies or not predicts_targets(evidence):
        return None
    try:
        scaling = _small_factor(evidence)
    except NoEvidence:
        return None
    if scaling is None:
        return None
    call, factor = scaling
    remedy = try_change(evidence, "without a factor of the scores", replaced((call,), first_argument))
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


def _small_factor(evidence: Evidence) -> tuple[Call, float] | None:
    """The call that multiplies the output of the last layer by a small number, or divides it by a large one, and the
    factor; None where there is none."""
    graph = evidence.graph
    if graph.root is None:
        return None
    before_loss = graph.ancestors(graph.root)
    weights = [call.index for call in graph.weights if call.index in before_loss]
    for call in graph.calls:
        factor = _factor(call)
        if factor is None or call.index not in before_loss or len(call.inputs) != 1 or len(call.shape) < 2:
            continue
        origin = graph.origin(call.inputs[0])
        if origin is not None and weights and max(weights) in graph.ancestors(origin.index) and 0 < factor <= _SMALL:
            return call, factor
    return None


def _factor(call: Call) -> float | None:
    """The absolute number by which a call multiplies a tensor; None for other calls."""
    value = call.option(1, "other")
    if not isinstance(value, int | float) or isinstance(value, bool) or not value or not math.isfinite(value):
        return None
    if call.name in QUOTIENTS:
        return abs(1 / value)
    return abs(float(value)) if call.name in TIMES else None
