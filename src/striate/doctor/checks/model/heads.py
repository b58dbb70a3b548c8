"""The calls of losses at the end of the network, and what is computed right before them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from striate.doctor.evidence.call_graph import Call, CallGraph, Head

SCORES = ("cross_entropy", "log_softmax", "softmax", "logsumexp")
"""Functions that expect unbounded scores, one per class."""


def last_heads(graph: CallGraph, names: tuple[str, ...]) -> Iterator[Head]:
    """The calls of losses, and of the softmax before them, with these names, that no layer with weights follows, as
    layers follow the softmax of attention."""
    before_weights: set[int] = set()
    for call in graph.weights:
        before_weights |= graph.ancestors(call.index)
    for head in graph.heads:
        if head.call.name in names and head.call.index not in before_weights:
            yield head


def origin_of(graph: CallGraph, head: Head) -> Call | None:
    """The call that computes the input of a loss; None if unknown."""
    return graph.origin(head.call.inputs[0]) if head.call.inputs else None


def axis_of(head: Head) -> int | None:
    """The axis of the classes; None where the outputs have no axis of two classes or more."""
    outputs = head.outputs
    if head.call.name == "cross_entropy":
        axis = 1 if outputs.ndim > 1 else 0
    else:
        dim = head.call.option(1, "dim")
        axis = dim if isinstance(dim, int) else (1 if outputs.ndim in (2, 4) else 0)
    if not outputs.ndim or not outputs.is_floating_point() or not -outputs.ndim <= axis < outputs.ndim:
        return None
    return axis if outputs.shape[axis] > 1 else None


def are_probabilities(outputs: torch.Tensor, axis: int) -> bool:
    """Whether values lie in 0 to 1 and sum to 1 along an axis."""
    values = outputs.double()
    if not bool(values.isfinite().all()) or float(values.min()) < 0:
        return False
    return float((values.sum(axis) - 1).abs().max()) < 1e-2 / math.sqrt(values.shape[axis])


def lowest_loss(classes: int, width: float) -> float:
    """The lowest possible cross entropy of scores that differ by at most `width`."""
    return math.log1p((classes - 1) * math.exp(-width))


def python_path(path: str, root: str) -> str:
    """A module's or parameter's path as a Python expression: `model.features[3].conv` for features.3.conv."""
    return root + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path.split("."))


def without_last(activation: str) -> str:
    """The advice for a training by striate whose network ends with this activation."""
    return f"no {activation} at the end of the network, as in the layer string conv(8,3) relu fc(10)"


def call_text(call: Call) -> str:
    """The name and place of a call: `softmax in head[3]`."""
    return f"{call.name} in {call.place}"
