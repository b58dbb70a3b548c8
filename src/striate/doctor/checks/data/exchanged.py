"""Flips and turns of training images that make what one class looks like into another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import torch

from striate.doctor.evidence.draws import ALIKE, MOVES, Pair, drawn_twice, images, likeness
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.simple_models import Reference, Whole

EXCHANGED, TELLS = 0.4, 0.75
"""Of a class that is taken for another one; of validation that a simple model tells."""
_MORE, _SHARE = 0.1, 0.05
"""Of correlation, above that of the draws as they are; of pairs of draws."""
TAKEN, BACK, _CONFUSED, _ELSEWHERE, _FEWEST = 0.15, 0.7, 0.06, 0.6, 24
"""Of training samples of a class that look like another one; of these, that look like their own once they are moved;
of validation, that is confused at most; of training samples of other classes, told as they are, since else training
and validation differ in more than moves; samples of a class."""


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


def moved_back(plain: Reference, shown: torch.Tensor, labels: torch.Tensor) -> tuple[str, int, int] | None:
    """A move, and two classes: many training samples (N, C, H, W) of each look like the other one, to the model that
    tells validation apart, and like their own once they are moved so."""
    name = plain.best[0]
    if shown.ndim != 4 or plain.accuracy(name) < TELLS:
        return None
    known, own = plain.opinions[name].predictions, labels.numpy()
    told, classes = plain.ask(shown, name), sorted(set(plain.labels.tolist()))
    for words, move in _moves(square=shown.shape[-1] == shown.shape[-2]):
        again = plain.ask(move(shown), name)
        for pair in combinations(classes, 2):
            if all(_goes_and_comes(a, b, own, told, again) for a, b in (pair, pair[::-1])) and not any(
                (known[plain.labels == a] == b).mean() > _CONFUSED for a, b in (pair, pair[::-1])
            ):
                others = (own != pair[0]) & (own != pair[1])
                if not others.any() or (told[others] == own[others]).mean() >= _ELSEWHERE:
                    return words, *pair
    return None


def _goes_and_comes(one: int, other: int, own: Whole, told: Whole, again: Whole) -> bool:
    of = own == one
    taken = of & (told == other)
    enough = of.sum() >= _FEWEST and taken.sum() >= TAKEN * of.sum()
    return bool(enough and (again[taken] == one).mean() >= BACK)


def _moves(*, square: bool) -> list[tuple[str, Callable[[torch.Tensor], torch.Tensor]]]:
    """Those that leave an image its shape."""
    return [(words, move) for words, move in MOVES.items() if square or words != "turned by a quarter"]


def _moves_between(pairs: list[Pair]) -> Iterator[str]:
    """The moves that lie between two draws of the same sample, wherever it is shifted to as well."""
    square = all(one.shape[-1] == one.shape[-2] for one, _ in pairs)
    for words, move in _moves(square=square):
        found = 0
        for one, other in pairs:
            there = likeness(one, move(other))
            found += there > ALIKE and there > likeness(one, other) + _MORE
        if found > _SHARE * len(pairs):
            yield words
