"""Bounded functions between layers with weights, through which nothing is learned."""

from __future__ import annotations

from typing import Any

from torch.nn import functional

from striate.doctor.checks.model.variants import tried
from striate.doctor.evidence.call_graph import SAME_NUMBERS, Call, CallGraph
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial_variants import first_argument, replaced
from striate.wording import listed

LITTLE, MUCH = 0.1, 0.5
"""Of the way from chance to a loss of 0: gone with the bounded functions at most, with ReLU at least."""
_BOUNDED = ("sigmoid", "tanh", "softmax", "softmin", "hardsigmoid", "hardtanh", "softsign")
_PASSED = SAME_NUMBERS | {
    "max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d",
    "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "mean", "batch_norm", "layer_norm",
    "group_norm", "dropout1d", "dropout2d", "dropout3d",
}  # fmt: skip
"""What may lie between such a function and the weights behind it."""


def squashed(evidence: Evidence) -> tuple[str, str] | None:
    """Where bounded functions are the activations of a network that learns next to nothing, and learns with ReLU; and
    what was measured."""
    own = evidence.progress
    if own.share > LITTLE:
        return None
    graph = evidence.graph
    calls = tuple(call for call in graph.calls if call.name in _BOUNDED and call.from_batch and _activates(graph, call))
    if not calls:
        return None
    other = tried(evidence, "with ReLU for bounded activations", replaced(calls, _relu))
    if other is None or not other.better or evidence.progress_of(other.trial).share < MUCH:
        return None
    names, places = (list(dict.fromkeys(values)) for values in ([c.name for c in calls], [c.place for c in calls]))
    return listed(places), f"{listed(names)} before layers with weights; with ReLU instead, {other.text}"


def _relu(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return functional.relu(first_argument(function, args, kwargs))


def _activates(graph: CallGraph, call: Call) -> bool:
    """Whether all that a call gives goes to layers with weights: not what multiplies something, as a gate or attention
    does, and not the network's output."""
    awaiting, reached = list(graph.consumers[call.index]), False
    while awaiting:
        behind = graph.calls[awaiting.pop()]
        if graph.is_weights(behind):
            reached = True
        elif behind.name in _PASSED:
            awaiting += graph.consumers[behind.index]
        else:
            return False
    return reached
