"""Flips and rotations of training images that turn one class into another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
import torch

from striate.doctor.checks.data.augmentation.finding import augmentation_finding
from striate.doctor.checks.data.augmentation.network_inputs import NetworkInputs
from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.draws import ALIKE, MOVES, Pair, drawn_twice, images, likeness
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.simple_models import Reference, Whole, fit_simple_models
from striate.records import Finding
from striate.wording import percent

_EXCHANGED, _ACCURATE = 0.4, 0.75
"""The share of a class that is predicted as another one; the validation accuracy of a simple model."""
_MORE, _SHARE = 0.1, 0.05
"""By how much the correlation exceeds that of the unmoved draws; a share of pairs of draws."""
_TAKEN, _BACK, _CONFUSED, _OTHERS_RIGHT, _FEWEST = 0.15, 0.7, 0.06, 0.6, 24
"""Shares of the training samples of a class that are predicted as another one; of these, that are predicted as their
own once moved back; of validation, that are confused at most; of the training samples of other classes, that are
predicted right (else training and validation differ in more than moves); and the fewest samples of a class."""

_OFTEN, _SELDOM, _MOST_SAMPLES = 0.25, 0.08, 1000
"""Shares of a class that are predicted as another one in training and in validation; the most samples that are
predicted."""
_FEWEST_IN_CLASS = 12
_OWN, _CHANGED, _AS_BEFORE = 0.5, 0.6, 0.8
"""For a model that may confuse other classes: the share of each of two classes that it predicts right, the share that
changes places once moved; and the share of the accuracy for the other classes that a move has to leave."""
_WHY = "Augmentation turns samples of one class into samples of another, but keeps their labels."


def classes_exchanged(evidence: Evidence, given: NetworkInputs, shown: Reference, plain: Reference) -> Finding | None:
    """Two classes that augmentation exchanges, by simple models fitted to validation (`plain`) and to the inputs of the
    network (`shown`)."""
    turned = _taken_for_each_other(given, shown, plain)
    if turned is not None and _confuses(evidence, *turned[:2]):
        one, other, share = turned
        return augmentation_finding(
            given.place,
            f"a simple model takes {percent(share, 0)} of the augmented training samples of class {one} for class "
            f"{other}, and as many of class {other} for class {one}; in validation it confuses at most "
            f"{percent(_SELDOM, 0)} of them",
            why=_WHY,
            remedy="remove the change that exchanges the two classes, such as a rotation or a flip, or change the "
            "label with it",
            threshold=f"{percent(_OFTEN, 0)} of the augmented samples of each of two classes look like the other class",
        )
    if (swapped := _exchanged(evidence, plain, given)) is None:
        return None
    words, one, other = swapped
    return _finding(
        given.place,
        words,
        f"some training images are {words}; if validation images are as well, simple models take "
        f"{percent(_EXCHANGED, 0)} or more of class {one} for class {other}, and of {other} for {one}",
        f"models with a validation accuracy of {percent(_ACCURATE, 0)} take {percent(_EXCHANGED, 0)} of each of two "
        "classes for the other if validation is flipped or rotated like training; or a model that confuses at most "
        f"{percent(_CONFUSED, 0)} of each before takes {percent(_CHANGED, 0)} for the other, and predicts other "
        "classes as before",
    )


def exchanged_once(evidence: Evidence, given: NetworkInputs) -> Finding | None:
    """As `classes_exchanged`, for samples without a second draw to compare."""
    val = evidence.val_samples
    if given.inputs.shape[1:] != val.sole_inputs.shape[1:] or given.inputs.ndim != 4:
        return None
    plain = fit_simple_models(val.sole_inputs, val.labels, evidence.clock)
    swapped = moved_back(plain, given.inputs[:_MOST_SAMPLES], given.labels[:_MOST_SAMPLES])
    if swapped is None:
        return None
    words, one, other = swapped
    return _finding(
        given.place,
        words,
        f"a simple model takes {percent(_TAKEN, 0)} or more of the training samples of class {one} for class {other}, "
        f"and of {other} for {one}; if they are {words}, it predicts their own class",
        f"{percent(_TAKEN, 0)} of the augmented samples of each of two classes look like the other class until they "
        "are flipped or turned back",
    )


def _finding(place: str, words: str, measured: str, threshold: str) -> Finding:
    return augmentation_finding(
        place,
        measured,
        why=_WHY,
        remedy=f"remove the change: here, images {words} belong to another class",
        threshold=threshold,
        severity="warning",
    )


def _exchanged(evidence: Evidence, plain: Reference, given: NetworkInputs) -> tuple[str, int, int] | None:
    """A move (flip or rotation) of training images and two classes that simple models often confuse once validation
    images are moved like this."""
    x, labels = evidence.val_samples.sole_inputs, plain.labels
    if x.ndim != 4:
        return None
    tell = [name for name in plain.out_of_fold if plain.accuracy(name) >= _ACCURATE]
    own = evidence.samples.sole_inputs
    changed = images(list(zip(own, given.inputs, strict=False)))
    for words in _moves_between(drawn_twice(evidence) if given.place == "loader" else changed):
        predicted = {name: plain.predict(MOVES[words](x[plain.rows]), name) for name in plain.out_of_fold}
        for one, other in combinations(sorted(set(labels.tolist())), 2) if tell else ():
            ways = [(labels == a, b) for a, b in ((one, other), (other, one))]
            taken = [min(float((predicted[name][of] == b).mean()) for of, b in ways) for name in tell]
            if sum(taken) / len(taken) >= _EXCHANGED:
                return words, one, other
        if (exchanged := change_places(plain, predicted)) is not None:
            return words, *exchanged
    return None


def change_places(plain: Reference, predicted: dict[str, Whole]) -> tuple[int, int] | None:
    """Two classes that a model distinguishes, but confuses once samples are moved, while its predictions for other
    classes stay right. `predicted`: the predictions of each model for the moved samples."""
    for name, moved in predicted.items():
        known, labels = plain.out_of_fold[name].predictions, plain.labels
        pairs = [
            pair
            for pair in combinations(sorted(set(labels.tolist())), 2)
            if all(_is_confused_after(a, b, labels, known, moved) for a, b in (pair, pair[::-1]))
        ]
        others = ~np.isin(labels, pairs)
        before, after = (int((predictions == labels)[others].sum()) for predictions in (known, moved))
        if pairs and after >= _AS_BEFORE * before:
            return pairs[0]
    return None


def _is_confused_after(one: int, other: int, labels: Whole, known: Whole, moved: Whole) -> bool:
    """Whether a model that distinguishes two classes predicts the second for samples of the first once they are
    moved."""
    of = labels == one
    if of.sum() < _FEWEST or (known[of] == one).mean() < _OWN or (known[of] == other).mean() > _CONFUSED:
        return False
    return bool((moved[of] == other).mean() >= _CHANGED and (moved[of] == one).mean() <= _CONFUSED)


def moved_back(plain: Reference, shown: torch.Tensor, labels: torch.Tensor) -> tuple[str, int, int] | None:
    """A move and two classes: the best model of validation predicts many training samples (N, C, H, W) of each as the
    other one, and as their own once they are moved."""
    name = plain.best[0]
    if shown.ndim != 4 or plain.accuracy(name) < _ACCURATE:
        return None
    known, own = plain.out_of_fold[name].predictions, labels.numpy()
    predicted, classes = plain.predict(shown, name), sorted(set(plain.labels.tolist()))
    for words, move in _moves(square=shown.shape[-1] == shown.shape[-2]):
        again = plain.predict(move(shown), name)
        for pair in combinations(classes, 2):
            if all(_is_restored(a, b, own, predicted, again) for a, b in (pair, pair[::-1])) and not any(
                (known[plain.labels == a] == b).mean() > _CONFUSED for a, b in (pair, pair[::-1])
            ):
                others = (own != pair[0]) & (own != pair[1])
                if not others.any() or (predicted[others] == own[others]).mean() >= _OTHERS_RIGHT:
                    return words, *pair
    return None


def _is_restored(one: int, other: int, own: Whole, predicted: Whole, again: Whole) -> bool:
    of = own == one
    taken = of & (predicted == other)
    enough = of.sum() >= _FEWEST and taken.sum() >= _TAKEN * of.sum()
    return bool(enough and (again[taken] == one).mean() >= _BACK)


def _moves(*, square: bool) -> list[tuple[str, Callable[[torch.Tensor], torch.Tensor]]]:
    """The moves that keep the shape of an image."""
    return [(words, move) for words, move in MOVES.items() if square or words != "turned by a quarter"]


def _moves_between(pairs: list[Pair]) -> Iterator[str]:
    """The moves by which two draws of the same sample differ, whatever the shift."""
    square = all(one.shape[-1] == one.shape[-2] for one, _ in pairs)
    for words, move in _moves(square=square):
        found = 0
        for one, other in pairs:
            there = likeness(one, move(other))
            found += there > ALIKE and there > likeness(one, other) + _MORE
        if found > _SHARE * len(pairs):
            yield words


def _taken_for_each_other(given: NetworkInputs, shown: Reference, plain: Reference) -> tuple[int, int, float] | None:
    """Two classes that the best model of validation distinguishes there, but confuses in training, and that the best
    model of training confuses as well: if validation only numbers its classes differently, that model does not."""
    name, train_name = plain.best[0], shown.best[0]
    if plain.accuracy(name) < _ACCURATE:
        return None
    moved = plain.predict(given.inputs[:_MOST_SAMPLES], name), given.labels[:_MOST_SAMPLES].numpy()
    known = plain.out_of_fold[name].predictions, plain.labels
    predicted = shown.out_of_fold[train_name].predictions, shown.labels
    classes = sorted(set(plain.labels.tolist()))
    for one, other in combinations(classes, 2):
        ways = [(one, other), (other, one)]
        shares = [_share_taken(moved, a, b) for a, b in ways]
        confused = max(_share_taken(predicted, a, b) for a, b in ways) >= _OFTEN
        if confused and min(shares) >= _OFTEN and max(_share_taken(known, a, b) for a, b in ways) <= _SELDOM:
            return one, other, min(shares)
    return None


def _confuses(evidence: Evidence, one: int, other: int) -> bool:
    """Whether the trial's network confuses both classes in validation, or in training if the step does not run on
    validation."""
    try:
        after = evidence.after_val
    except NoEvidence as reason:
        if isinstance(reason, OutOfTime):
            raise
        after = evidence.after
    predicted, targets = after.predicted, after.targets
    if targets is None or predicted.ndim != 1:
        return False
    pair = predicted.numpy().astype("int64"), targets.reshape(-1).numpy().astype("int64")
    return max(_share_taken(pair, one, other), _share_taken(pair, other, one)) >= _OFTEN


def _share_taken(pair: tuple[Whole, Whole], label: int, other: int) -> float:
    """The share of a class that is predicted as another one. `pair`: predictions and labels."""
    found = pair[0][pair[1] == label]
    return float((found == other).mean()) if len(found) >= _FEWEST_IN_CLASS else 0.0
