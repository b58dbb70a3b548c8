"""Distances that cross entropy is given as if they were scores."""

from __future__ import annotations

import math

import torch

from striate.doctor.evidence.call_graph import QUOTIENTS, TIMES
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import class_losses

DEVIATIONS = 3.5
"""Of an even chance, of which that of the right class is above it as the lowest number."""
LEARNED = 0.5
"""Of the loss of a guess, below which the trial has learned what it was asked."""
_FEWEST, _TIMES = 24, 1.75


_DISTANCES = ("cdist", "pairwise_distance")
_SCALED = (*TIMES, *QUOTIENTS, "masked_fill", "where")
_MASKED = -1e3


def distances_asked(evidence: Evidence) -> str | None:
    """Cross entropy of distances as torch gives them, or of numbers none of which is below 0 and of which the right
    class has the lowest, before anything was learned, and after which nothing was: it asks for the farthest."""
    return _by_torch(evidence) or _by_numbers(evidence)


def _by_torch(evidence: Evidence) -> str | None:
    """Distances of one of torch's functions, scaled or masked at most, none of them below 0."""
    graph = evidence.graph
    for head in graph.heads:
        made = graph.origin(head.call.inputs[0]) if head.call.name == "cross_entropy" and head.call.inputs else None
        while made is not None and made.name in _SCALED and made.inputs:
            made = graph.origin(made.inputs[0])
        numbers = head.outputs[head.outputs > _MASKED]
        if made is not None and made.name in _DISTANCES and len(numbers) and bool((numbers >= 0).all()):
            return (
                f"`cross_entropy` gets distances of `{made.name}`, none below 0, and increases that of the right class"
            )
    return None


def _by_numbers(evidence: Evidence) -> str | None:
    for call in class_losses(evidence):
        numbers, target = call.input.detach().float().cpu(), call.target.detach().cpu().long()
        if numbers.ndim != 2 or target.ndim != 1 or len(target) < _FEWEST or numbers.shape[1] < 3:
            continue
        probable = torch.allclose(numbers.sum(1), torch.ones(len(numbers)), atol=1e-3)
        if probable or not bool((numbers >= 0).all()) or int(target.min()) < 0:
            continue
        chance = 1 / numbers.shape[1]
        lowest, highest = (_recall(found, target) for found in (numbers.argmin(1), numbers.argmax(1)))
        far = chance + DEVIATIONS * math.sqrt(chance * (1 - chance) / len(target))
        if lowest < max(far, _TIMES * chance) or highest > chance:
            continue
        if evidence.trial.level() >= LEARNED * -math.log(chance):
            return (
                f"in the first step no value in the input {tuple(numbers.shape)} of cross entropy is below 0; the "
                f"right class has the lowest value in {lowest:.0%} of the rows and the highest in {highest:.0%}; "
                f"after the trial the loss is {evidence.trial.level():.3g} (chance: {-math.log(chance):.3g})"
            )
    return None


def _recall(found: torch.Tensor, target: torch.Tensor) -> float:
    """The share of right ones, each class counted alike: of an untrained network one class may have all."""
    kinds = target.unique()
    return sum(float((found[target == kind] == kind).double().mean()) for kind in kinds) / len(kinds)
