"""The loss as the network's end meets it: what stands right before it, and what that does to the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from striate.doctor.evidence.call_graph import Call, CallGraph, Head

SCORES = ("cross_entropy", "log_softmax", "softmax", "logsumexp")
"""Functions that want unbounded scores, one a class."""
REGRESSION = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")


def last_heads(graph: CallGraph, names: tuple[str, ...]) -> Iterator[Head]:
    """The losses, and the softmax before them, of these names: those behind which no weights follow, as they do behind
    the softmax of attention."""
    within: set[int] = set()
    for call in graph.weights:
        within |= graph.ancestors(call.index)
    for head in graph.heads:
        if head.call.name in names and head.call.index not in within:
            yield head


def made_by(graph: CallGraph, head: Head) -> Call | None:
    """The call that made the numbers which a loss is given."""
    return graph.origin(head.call.inputs[0]) if head.call.inputs else None


def axis_of(head: Head) -> int | None:
    """The axis of the classes; None where the outputs have none of two or more."""
    outputs = head.outputs
    if head.call.name == "cross_entropy":
        axis = 1 if outputs.ndim > 1 else 0
    else:
        given = head.call.option(1, "dim")
        axis = given if isinstance(given, int) else (1 if outputs.ndim in (2, 4) else 0)
    if not outputs.ndim or not outputs.is_floating_point() or not -outputs.ndim <= axis < outputs.ndim:
        return None
    return axis if outputs.shape[axis] > 1 else None


def are_probabilities(outputs: torch.Tensor, axis: int) -> bool:
    """Whether numbers lie in 0 to 1 and add up to 1 along an axis."""
    values = outputs.double()
    if not bool(values.isfinite().all()) or float(values.min()) < 0:
        return False
    return float((values.sum(axis) - 1).abs().max()) < 1e-2 / math.sqrt(values.shape[axis])


def lowest_loss(classes: int, width: float) -> float:
    """The least cross entropy of scores that differ by `width` at most."""
    return math.log1p((classes - 1) * math.exp(-width))


def written(path: str, root: str) -> str:
    """A module's or parameter's path as it is written in Python: `model.features[3].conv` for features.3.conv."""
    return root + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path.split("."))


def named(call: Call) -> str:
    """A call in words: `softmax in head[3]`."""
    return f"{call.name} in {call.place}"
