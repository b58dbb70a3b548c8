"""Noise targets, as for diffusion, that are not part of the network's input."""

from __future__ import annotations

from striate.doctor.evidence.call_graph import CallGraph
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding


def unseen_noise(evidence: Evidence) -> Finding | None:
    """A finding if the loss compares outputs with normal noise that the input does not contain; else None."""
    graph = evidence.graph
    for call, output, made in graph.noise_targets():
        wide = bool(call.input_shapes) and len(call.input_shapes[0]) > 1
        if not wide or made.index in _numbers_of(graph, output):
            continue
        return Finding(
            code="data.labels-random",
            severity="error",
            where="the training step",
            measured=f"`{call.name}` compares the output of the network with random values of `{made.name}` that "
            "are not part of its input",
            threshold="a noise target that is not in the inputs",
            why="Noise that is not in the input cannot be predicted: the best prediction is its mean.",
            remedy="draw the noise once, `noise = torch.randn_like(x)`, add it to the inputs, and use the same "
            "tensor as target",
        )
    return None


def _numbers_of(graph: CallGraph, index: int) -> set[int]:
    """The calls whose values a result depends on; `randn_like` and similar functions only use a shape."""
    found: set[int] = set()
    awaiting = [index]
    while awaiting:
        at = awaiting.pop()
        if at >= 0 and at not in found:
            found.add(at)
            awaiting += () if graph.calls[at].name.endswith("_like") else graph.calls[at].inputs
    return found
