"""Flips and turns of training images that make what one class looks like into another one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import torch

from striate.doctor.evidence.draws import ALIKE, MOVES, Pair, drawn_twice, images, likeness
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.simple_models import Reference

EXCHANGED, TELLS = 0.4, 0.75
"""Of a class that is taken for another one; of validation that a simple model tells."""
_MORE, _SHARE = 0.1, 0.05
"""Of correlation, above that of the draws as they are; of pairs of draws."""


def exchanged(evidence: Evidence, plain: Reference, shown: torch.Tensor, place: str) -> tuple[str, int, int] | None:
    """A move of training images, and two classes each of which is often taken for the other one once validation is
    moved so, by the simple models that tell validation apart. `shown`: what the step gives the network."""
    x, labels = evidence.val_samples.sole_inputs, plain.labels
    models = [name for name in plain.opinions if plain.accuracy(name) >= TELLS]
    if x.ndim != 4 or not models:
        return None
    own = evidence.samples.sole_inputs
    changed = images(list(zip(own, shown, strict=False)))
    for words in _moves_between(drawn_twice(evidence) if place == "loader" else changed):
        told = [plain.ask(MOVES[words](x[plain.rows]), name) for name in models]
        for one, other in combinations(sorted(set(labels.tolist())), 2):
            ways = [(labels == a, b) for a, b in ((one, other), (other, one))]
            taken = [min(float((said[of] == b).mean()) for of, b in ways) for said in told]
            if sum(taken) / len(taken) >= EXCHANGED:
                return words, one, other
    return None


def _moves_between(pairs: list[Pair]) -> Iterator[str]:
    """The moves that lie between two draws of the same sample, wherever it is shifted to as well."""
    square = all(one.shape[-1] == one.shape[-2] for one, _ in pairs)
    for words, move in MOVES.items():
        if words == "turned by a quarter" and not square:
            continue
        found = 0
        for one, other in pairs:
            there = likeness(one, move(other))
            found += there > ALIKE and there > likeness(one, other) + _MORE
        if found > _SHARE * len(pairs):
            yield words
