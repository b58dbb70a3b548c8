"""Bounded activations between layers with weights, with which nothing is learned."""

from __future__ import annotations

from typing import Any

from torch.nn import functional

from striate.doctor.checks.model.variants import try_change
from striate.doctor.evidence.call_graph import SAME_NUMBERS, Call, CallGraph
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial_variants import first_argument, replaced
from striate.wording import listed

LITTLE, MUCH = 0.1, 0.5
"""Progress, from 0 at chance to 1 at a loss of 0: at most with the bounded functions, and at least with ReLU."""
_BOUNDED = ("sigmoid", "tanh", "softmax", "softmin", "hardsigmoid", "hardtanh", "softsign")
_PASSED = SAME_NUMBERS | {
    "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "mean", "batch_norm", "layer_norm",
    "group_norm", "dropout1d", "dropout2d", "dropout3d",
}  # fmt: skip
"""Functions that may be between such a function and the next layer with weights."""


def squashed(evidence: Evidence) -> tuple[str, str] | None:
    """The places of bounded activations in a network that learns almost nothing with them, but learns with ReLU, and
    what was measured; None for other networks."""
    own = evidence.progress
    if own.share > LITTLE:
        return None
    graph = evidence.graph
    calls = tuple(call for call in graph.calls if call.name in _BOUNDED and call.from_batch and _activates(graph, call))
    if not calls:
        return None
    other = try_change(evidence, "with ReLU for bounded activations", replaced(calls, _relu))
    if other is None or not other.better or evidence.progress_of(other.trial).share < MUCH:
        return None
    names, places = (list(dict.fromkeys(values)) for values in ([c.name for c in calls], [c.place for c in calls]))
    return listed(places), f"{listed(names)} before layers with weights; with ReLU instead, {other.text}"


def _relu(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return functional.relu(first_argument(function, args, kwargs))


def _activates(graph: CallGraph, call: Call) -> bool:
    """Whether a call's output goes only to layers with weights: it multiplies nothing, as a gate or attention does, and
    is not the network's output."""
    awaiting, reached = list(graph.consumers[call.index]), False
    while awaiting:
        user = graph.calls[awaiting.pop()]
        if graph.is_weights(user):
            reached = True
        elif user.name in _PASSED:
            awaiting += graph.consumers[user.index]
        else:
            return False
    return reached
