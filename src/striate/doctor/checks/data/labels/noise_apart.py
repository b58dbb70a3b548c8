"""Noise that is to be predicted, as by diffusion, and that nothing was made of which the network is shown."""

from __future__ import annotations

from striate.doctor.evidence.call_graph import CallGraph
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding


def noise_apart(evidence: Evidence) -> Finding | None:
    """What says so of noise of a normal distribution; None elsewhere."""
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
    """The calls whose numbers go into a result; `randn_like` and its kind take nothing but a shape."""
    found: set[int] = set()
    awaiting = [index]
    while awaiting:
        at = awaiting.pop()
        if at >= 0 and at not in found:
            found.add(at)
            awaiting += () if graph.calls[at].name.endswith("_like") else graph.calls[at].inputs
    return found
