"""Distances that are passed to cross entropy as if they were scores."""

from __future__ import annotations

import math

import torch

from striate.doctor.evidence.call_graph import QUOTIENTS, TIMES
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import class_losses
from striate.wording import percent

DEVIATIONS = 3.5
"""Standard deviations above chance at which the right class has the lowest value."""
LEARNED = 0.5
"""Share of the loss at chance; the trial has learned the task if its loss is below."""
_FEWEST, _TIMES = 24, 1.75


_DISTANCES = ("cdist", "pairwise_distance")
_SCALED = (*TIMES, *QUOTIENTS, "masked_fill", "where")
_MASKED = -1e3


def distances_asked(evidence: Evidence) -> str | None:
    """What was measured, where cross entropy gets distances, and so increases that of the right class; None elsewhere.

    Distances are known by the function of torch that computes them, or by their values: none is below 0, the right
    class has the lowest one in the first step, and the trial learns little.
    """
    return _by_torch(evidence) or _by_numbers(evidence)


def _by_torch(evidence: Evidence) -> str | None:
    """Distances computed by a function of torch, at most scaled or masked, none of them below 0."""
    graph = evidence.graph
    for head in graph.heads:
        source = graph.origin(head.call.inputs[0]) if head.call.name == "cross_entropy" and head.call.inputs else None
        while source is not None and source.name in _SCALED and source.inputs:
            source = graph.origin(source.inputs[0])
        numbers = head.outputs[head.outputs > _MASKED]
        if source is not None and source.name in _DISTANCES and len(numbers) and bool((numbers >= 0).all()):
            distances = f"distances of `{source.name}`, none below 0"
            return f"`cross_entropy` gets {distances}, and increases that of the right class"
    return None


def _by_numbers(evidence: Evidence) -> str | None:
    for call in class_losses(evidence):
        numbers, target = call.input.detach().float().cpu(), call.target.detach().cpu().long()
        if numbers.ndim != 2 or target.ndim != 1 or len(target) < _FEWEST or numbers.shape[1] < 3:
            continue
        probabilities = torch.allclose(numbers.sum(1), torch.ones(len(numbers)), atol=1e-3)
        if probabilities or not bool((numbers >= 0).all()) or int(target.min()) < 0:
            continue
        chance = 1 / numbers.shape[1]
        lowest, highest = (_recall(predicted, target) for predicted in (numbers.argmin(1), numbers.argmax(1)))
        far = chance + DEVIATIONS * math.sqrt(chance * (1 - chance) / len(target))
        if lowest < max(far, _TIMES * chance) or highest > chance:
            continue
        if evidence.trial.level() >= LEARNED * -math.log(chance):
            return (
                f"in the first step no value in the input {tuple(numbers.shape)} of cross entropy is below 0; the "
                f"right class has the lowest value in {percent(lowest, 0)} of the rows and the highest in "
                f"{percent(highest, 0)}; after the trial the loss is {evidence.trial.level():.3g} (chance: "
                f"{-math.log(chance):.3g})"
            )
    return None


def _recall(predicted: torch.Tensor, target: torch.Tensor) -> float:
    """The mean recall of the classes, since an untrained network may predict one class for all samples."""
    kinds = target.unique()
    return sum(float((predicted[target == kind] == kind).double().mean()) for kind in kinds) / len(kinds)
