"""Flips and turns of training images that make what one class looks like into another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
import torch

from striate.doctor.checks.data.augmentation.given import Given
from striate.doctor.checks.data.augmentation.told import told
from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.draws import ALIKE, MOVES, Pair, drawn_twice, images, likeness
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.simple_models import Reference, Whole, fit_simple_models
from striate.records import Finding

_EXCHANGED, _TELLS = 0.4, 0.75
"""Of a class that is taken for another one; of validation that a simple model tells."""
_MORE, _SHARE = 0.1, 0.05
"""Of correlation, above that of the draws as they are; of pairs of draws."""
_TAKEN, _BACK, _CONFUSED, _ELSEWHERE, _FEWEST = 0.15, 0.7, 0.06, 0.6, 24
"""Of training samples of a class that look like another one; of these, that look like their own once they are moved;
of validation, that is confused at most; of training samples of other classes, told as they are, since else training
and validation differ in more than moves; samples of a class."""

_OFTEN, _SELDOM, _ASKED = 0.25, 0.08, 1000
"""Of a class that is taken for another one in training, and in validation; samples that are asked about."""
_FEWEST_IN_CLASS = 12
_OWN, _CHANGED, _AS_BEFORE = 0.5, 0.6, 0.8
"""Of two classes by a model that tells few of the others: what it knows of each, what changes places once moved; of the
accuracy for the classes that change places with none, what a move leaves."""
_WHY = "Augmentation turns samples of one class into samples of another, but keeps their labels."


def classes_exchanged(evidence: Evidence, given: Given, shown: Reference, plain: Reference) -> Finding | None:
    """What `plain`, of validation, and `shown`, of what the network is given, tell of two classes."""
    turned = _taken_for_each_other(given, shown, plain)
    if turned is not None and _confuses(evidence, *turned[:2]):
        one, other, share = turned
        return told(
            given.place,
            f"a simple model takes {share:.0%} of the augmented training samples of class {one} for class {other}, "
            f"and as many of class {other} for class {one}; in validation it confuses at most {_SELDOM:.0%} of them",
            why=_WHY,
            remedy="remove the change that exchanges the two classes, such as a rotation or a flip, or change the "
            "label with it",
            threshold=f"{_OFTEN:.0%} of the augmented samples of each of two classes look like the other class",
        )
    if (swapped := _exchanged(evidence, plain, given)) is None:
        return None
    words, one, other = swapped
    return _of_a_move(
        given.place,
        words,
        f"some training images are {words}; if validation images are as well, simple models take {_EXCHANGED:.0%} "
        f"or more of class {one} for class {other}, and of {other} for {one}",
        f"{_EXCHANGED:.0%} of each of two classes look like the other class if validation is flipped or turned as "
        f"training is, to models that predict {_TELLS:.0%} of validation right; or {_CHANGED:.0%} to one that takes at "
        f"most {_CONFUSED:.0%} of each for the other before, and predicts other classes as before",
    )


def exchanged_once(evidence: Evidence, given: Given) -> Finding | None:
    """As `classes_exchanged`, of samples of which no second draw can be compared."""
    val = evidence.val_samples
    if given.inputs.shape[1:] != val.sole_inputs.shape[1:] or given.inputs.ndim != 4:
        return None
    plain = fit_simple_models(val.sole_inputs, val.labels, evidence.clock)
    swapped = moved_back(plain, given.inputs[:_ASKED], given.labels[:_ASKED])
    if swapped is None:
        return None
    words, one, other = swapped
    return _of_a_move(
        given.place,
        words,
        f"a simple model takes {_TAKEN:.0%} or more of the training samples of class {one} for class {other}, and "
        f"of {other} for {one}; if they are {words}, it predicts their own class",
        f"{_TAKEN:.0%} of the augmented samples of each of two classes look like the other class until they are "
        "flipped or turned back",
    )


def _of_a_move(place: str, words: str, measured: str, threshold: str) -> Finding:
    return told(
        place,
        measured,
        why=_WHY,
        remedy=f"remove the change: here, images {words} belong to another class",
        threshold=threshold,
        severity="warning",
    )


def _exchanged(evidence: Evidence, plain: Reference, given: Given) -> tuple[str, int, int] | None:
    """A move of training images, and two classes each of which is often taken for the other one once validation is
    moved so, by the simple models that tell validation apart."""
    x, labels = evidence.val_samples.sole_inputs, plain.labels
    if x.ndim != 4:
        return None
    tell = [name for name in plain.out_of_fold if plain.accuracy(name) >= _TELLS]
    own = evidence.samples.sole_inputs
    changed = images(list(zip(own, given.inputs, strict=False)))
    for words in _moves_between(drawn_twice(evidence) if given.place == "loader" else changed):
        said = {name: plain.predict(MOVES[words](x[plain.rows]), name) for name in plain.out_of_fold}
        for one, other in combinations(sorted(set(labels.tolist())), 2) if tell else ():
            ways = [(labels == a, b) for a, b in ((one, other), (other, one))]
            taken = [min(float((said[name][of] == b).mean()) for of, b in ways) for name in tell]
            if sum(taken) / len(taken) >= _EXCHANGED:
                return words, one, other
        if (exchanged := change_places(plain, said)) is not None:
            return words, *exchanged
    return None


def change_places(plain: Reference, said: dict[str, Whole]) -> tuple[int, int] | None:
    """Two classes that a model tells apart and takes for each other once samples are moved, while it predicts those
    that are in no such pair as before; `said`: what each model says of all samples moved."""
    for name, moved in said.items():
        known, labels = plain.out_of_fold[name].predictions, plain.labels
        pairs = [
            pair
            for pair in combinations(sorted(set(labels.tolist())), 2)
            if all(_becomes(a, b, labels, known, moved) for a, b in (pair, pair[::-1]))
        ]
        others = ~np.isin(labels, pairs)
        before, after = (int((answers == labels)[others].sum()) for answers in (known, moved))
        if pairs and after >= _AS_BEFORE * before:
            return pairs[0]
    return None


def _becomes(one: int, other: int, labels: Whole, known: Whole, moved: Whole) -> bool:
    """Whether samples of a class that a model tells from another one are this other one to it once they are moved,
    and the class itself no more."""
    of = labels == one
    if of.sum() < _FEWEST or (known[of] == one).mean() < _OWN or (known[of] == other).mean() > _CONFUSED:
        return False
    return bool((moved[of] == other).mean() >= _CHANGED and (moved[of] == one).mean() <= _CONFUSED)


def moved_back(plain: Reference, shown: torch.Tensor, labels: torch.Tensor) -> tuple[str, int, int] | None:
    """A move, and two classes: many training samples (N, C, H, W) of each look like the other one, to the model that
    tells validation apart, and like their own once they are moved so."""
    name = plain.best[0]
    if shown.ndim != 4 or plain.accuracy(name) < _TELLS:
        return None
    known, own = plain.out_of_fold[name].predictions, labels.numpy()
    told, classes = plain.predict(shown, name), sorted(set(plain.labels.tolist()))
    for words, move in _moves(square=shown.shape[-1] == shown.shape[-2]):
        again = plain.predict(move(shown), name)
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
    enough = of.sum() >= _FEWEST and taken.sum() >= _TAKEN * of.sum()
    return bool(enough and (again[taken] == one).mean() >= _BACK)


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


def _taken_for_each_other(given: Given, shown: Reference, plain: Reference) -> tuple[int, int, float] | None:
    """Two classes some of each of which are taken for the other in training, by a model of validation that tells them
    apart, and by one of training: where validation numbers classes otherwise, training tells them apart."""
    name, mine = plain.best[0], shown.best[0]
    if plain.accuracy(name) < _TELLS:
        return None
    looks = plain.predict(given.inputs[:_ASKED], name), given.labels[:_ASKED].numpy()
    known = plain.out_of_fold[name].predictions, plain.labels
    own = shown.out_of_fold[mine].predictions, shown.labels
    classes = sorted(set(plain.labels.tolist()))
    for one, other in combinations(classes, 2):
        ways = [(one, other), (other, one)]
        shares = [_taken(looks, a, b) for a, b in ways]
        confused = max(_taken(own, a, b) for a, b in ways) >= _OFTEN
        if confused and min(shares) >= _OFTEN and max(_taken(known, a, b) for a, b in ways) <= _SELDOM:
            return one, other, min(shares)
    return None


def _confuses(evidence: Evidence, one: int, other: int) -> bool:
    """Whether the trial's network takes some of validation of one class for the other, or of training where the step
    cannot be given validation."""
    try:
        after = evidence.after_val
    except NoEvidence as reason:
        if isinstance(reason, OutOfTime):
            raise
        after = evidence.after
    predicted, targets = after.predicted, after.targets
    if targets is None or predicted.ndim != 1:
        return False
    said = predicted.numpy().astype("int64"), targets.reshape(-1).numpy().astype("int64")
    return max(_taken(said, one, other), _taken(said, other, one)) >= _OFTEN


def _taken(said: tuple[Whole, Whole], label: int, other: int) -> float:
    """The share of samples of a class that is taken for another one, of predictions and labels."""
    found = said[0][said[1] == label]
    return float((found == other).mean()) if len(found) >= _FEWEST_IN_CLASS else 0.0
