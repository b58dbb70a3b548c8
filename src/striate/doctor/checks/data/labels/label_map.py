"""`data.label-map`: does validation number the classes as training does?"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.labels.missing_class import tried_with_others
from striate.doctor.checks.data.labels.numberings import numbered_twice
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.corrections import corrections
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.neighbor_search import evaluates_by_neighbors
from striate.doctor.setup.batch import altered
from striate.records import Finding
from striate.wording import listed

_MOST_AS, _OWN, _KNOWN, _MENDED = 0.4, 0.5, 0.4, 0.25
_FEWEST, _FEWEST_IN_CLASS = 8, 4
_AVOIDED, _BY_CHANCE, _SURE = 0.1, 6, 0.75
"""Of the samples of a class that are right by chance, and how many these are; of training, predicted right."""
_POSITIONS = 20_000
LABEL_MAP_LIMIT = (
    f"two classes or more, {_MOST_AS:.0%} of each predicted as another one in validation, at most {_OWN:.0%} of that "
    f"as itself, and {_KNOWN:.0%} right in training; renumbered, within {_MENDED:g} of training"
)

_Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Told:
    """What someone predicts: of training (samples that were not learned, where possible) and of validation."""

    name: str
    train: _Whole
    train_labels: _Whole
    val: _Whole
    val_labels: _Whole
    model: str = ""
    """The simple model that tells."""


def _find_label_map(evidence: Evidence) -> Iterable[Finding]:
    if (measured := numbered_twice(evidence)) is not None:
        yield _mapped(measured, "names with different numbers in training and validation")
        return
    with suppress(NoEvidence):
        for found in _columns(evidence):
            yield found
            return
    if evaluates_by_neighbors(evidence):
        raise NoEvidence("validation embeddings are compared only with each other, whatever their class numbers")
    for told in _opinions(evidence):
        if tried_with_others(evidence, torch.from_numpy(told.train_labels), torch.from_numpy(told.val_labels)):
            raise NoEvidence("validation has none of the classes of training: embeddings are evaluated on new classes")
        renumbering = renumbered(told)
        if renumbering is not None and not _inputs_explain(evidence, told, _SEEN_AS_OTHERS):
            yield renumbering
            return
        regrouping = regrouped(told) if evidence.samples.maps is None else None
        if regrouping is not None and not _inputs_explain(evidence, told, ("",)):
            yield regrouping
            return


_SEEN_AS_OTHERS = ("channels", "scale", "light", "shown", "cropped")
"""Beginnings of corrections without which classes may look like others; a turned image may be one of another class."""


def _inputs_explain(evidence: Evidence, told: Told, ways: tuple[str, ...]) -> bool:
    """Whether validation is predicted as well as training once its inputs are put right in one way that begins so:
    colors that are exchanged, or images that are smaller, look like classes that are renumbered."""
    val, trained = evidence.val_samples, float((told.train == told.train_labels).mean())
    with suppress(NoEvidence):
        for way in corrections(evidence.samples.inputs, val.inputs):
            if val.x_path is None or not way.what.startswith(ways):
                continue
            if told.model:
                right = evidence.reference.predict(way.undo(val.inputs[: len(told.val)]), told.model) == told.val_labels
                mended = float(right.mean())
            else:
                batches = [altered(batch, val.x_path, way.undo) for batch in evidence.val.raw[:16]]
                mended = evidence.predictions_of(evidence.trial, batches).accuracy
            if mended >= trained - _MENDED:
                return True
    return False


def _columns(evidence: Evidence) -> list[Finding]:
    """Where each sample has several labels, (N, K) of zeros and ones: whether outputs of validation go with targets in
    another column than those of training do."""
    after, val = evidence.after, evidence.after_val
    known, seen = (_correlations(found.outputs, found.targets) for found in (after, val))
    if known is None or seen is None or known.shape != seen.shape:
        return []
    moved = {
        column: int(seen[:, column].argmax())
        for column in range(seen.shape[1])
        if float(known[column, column]) >= _KNOWN
        and float(seen[:, column].max()) >= _KNOWN
        and float(seen[column, column]) <= _OWN * float(seen[:, column].max())
    }
    if len(moved) < 2 or len(set(moved.values())) < 2:
        return []
    shown = ", ".join(f"{a} → {b}" for a, b in list(moved.items())[:8]) + (" …" if len(moved) > 8 else "")
    column = next(iter(moved))
    measured = (
        f"the output for label {column} correlates with it by {known[column, column]:.2f} in training and by "
        f"{seen[column, column]:.2f} in validation, where the output for label {moved[column]} correlates by "
        f"{seen[moved[column], column]:.2f}: {shown}"
    )
    limit = (
        f"outputs of two or more labels that correlate by {_KNOWN:g} with their labels in training, and in validation "
    )
    limit += f"at most {_OWN:g} times as much as with other labels"
    return [_mapped(measured, limit)]


def _correlations(outputs: torch.Tensor, targets: torch.Tensor | None) -> torch.Tensor | None:
    """Of outputs with targets, both (N, K): (K, K); None where they are no such thing."""
    if targets is None or targets.ndim != 2 or outputs.shape != targets.shape or targets.shape[1] < 2:
        return None
    if not bool(((targets == 0) | (targets == 1)).all()) or bool((targets.sum(1) == 1).all()):
        return None
    a, b = (tensor.double() - tensor.double().mean(0) for tensor in (outputs, targets))
    scale = (a.square().sum(0)[:, None] * b.square().sum(0)[None]).sqrt()
    return torch.where(scale > 0, (a.T @ b) / scale.clamp_min(1e-12), torch.zeros(()).double())


def _of_positions(evidence: Evidence) -> Iterable[Told]:
    """What the trial's network predicts of positions, where there is a class for each."""
    if evidence.samples.maps is None or evidence.val_samples.maps is None:
        return
    found: list[_Whole] = []
    for predictions in (evidence.after, evidence.after_val):
        predicted, targets = predictions.predicted.flatten(), predictions.targets
        assert targets is not None
        every = max(1, len(predicted) // _POSITIONS)
        found += [tensor[::every].numpy().astype(np.int64) for tensor in (predicted, targets.flatten())]
    yield Told("the trial's network", found[0], found[1], found[2], found[3])


def _opinions(evidence: Evidence) -> Iterable[Told]:
    """The trial's network first, which is there already; then the best simple model."""
    if evidence.samples.maps is not None:
        yield from _of_positions(evidence)
        return
    labels = evidence.val_samples.labels
    try:
        after, val = evidence.after, evidence.after_val
        known = evidence.samples.labels[: len(after.outputs)]
        if len(known) != len(after.outputs) or len(val.outputs) > len(labels):
            raise NoEvidence("the network does not predict each sample once")
        yield Told(
            "the trial's network",
            _predictions(after.outputs),
            known.numpy().astype(np.int64),
            _predictions(val.outputs),
            labels[: len(val.outputs)].numpy().astype(np.int64),
        )
    except NoEvidence:
        pass
    reference = evidence.reference
    x = evidence.val_samples.inputs[:1000]
    if x.shape[1:] != evidence.samples.inputs.shape[1:]:
        return
    if x.is_floating_point() and not bool(torch.isfinite(x).all()):
        return
    name = reference.best[0]
    yield Told(
        f"a simple model ({name})",
        reference.out_of_fold[name].predictions,
        reference.labels,
        reference.predict(x, name),
        labels[: len(x)].numpy().astype(np.int64),
        name,
    )


def _predictions(outputs: torch.Tensor) -> _Whole:
    """The classes that outputs (N, K) or (N,) stand for."""
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        return outputs.argmax(1).numpy().astype(np.int64)
    if outputs.numel() != len(outputs):
        raise NoEvidence("the outputs are not classes")
    flat = outputs.flatten()
    limit = 0.5 if bool(((flat >= 0) & (flat <= 1)).all()) else 0.0
    return (flat > limit).numpy().astype(np.int64)


def _moved(told: Told) -> dict[int, int]:
    """By class of validation the class of training that it is; none where too few are moved to be sure."""
    recognized = {int(k): float((told.train[told.train_labels == k] == k).mean()) for k in np.unique(told.train_labels)}
    found, kept = dict[int, int](), set[int]()
    count = 0
    for label in np.unique(told.val_labels):
        predicted = told.val[told.val_labels == label]
        if len(predicted) < _FEWEST_IN_CLASS:
            continue
        values, counts = np.unique(predicted, return_counts=True)
        other = int(values[counts.argmax()])
        own = float((predicted == label).mean())
        believed = recognized.get(other, 0.0) >= _KNOWN and recognized.get(int(label), 1.0) >= _KNOWN
        if (
            other != label
            and counts.max() >= _MOST_AS * len(predicted)
            and own * len(predicted) <= _OWN * counts.max()
            and believed
        ):
            found[int(label)] = other
            count += len(predicted)
        elif other == label:
            kept.add(other)
    if 2 * len(kept.intersection(found.values())) >= len(found):
        return {}  # classes that look like others, which keep their numbers themselves
    distinct = len(set(found.values()))
    return found if len(found) >= 2 and distinct >= max(2, 0.7 * len(found)) and count >= _FEWEST else {}


def _right(told: Told, moved: dict[int, int]) -> float:
    """The share of validation that is right once its classes are renumbered."""
    return float((told.val == np.array([moved.get(int(k), int(k)) for k in told.val_labels])).mean())


def renumbered(told: Told) -> Finding | None:
    """That validation is as right as training once its classes are renumbered; None where it is not."""
    moved, trained = _moved(told), float((told.train == told.train_labels).mean())
    if not moved or _right(told, moved) < trained - _MENDED:
        return None
    own, fixed = float((told.val == told.val_labels).mean()), _right(told, moved)
    shown = ", ".join(f"{a} → {b}" for a, b in list(moved.items())[:8]) + (" …" if len(moved) > 8 else "")
    return _mapped(
        f"{told.name} predicts {trained:.2f} of training and {own:.2f} of validation right, and {fixed:.2f} of "
        f"validation with renumbered classes: {shown}",
        LABEL_MAP_LIMIT,
    )


def regrouped(told: Told) -> Finding | None:
    """That samples of several classes are in validation, but under other labels, as where its classes are put together
    of others; None where they are not."""
    trained, labels = float((told.train == told.train_labels).mean()), np.unique(told.val_labels)
    counts = {int(label): _own_and_by_chance(told, label) for label in labels}
    avoided = [k for k, (own, chance) in counts.items() if chance >= _BY_CHANCE and own <= _AVOIDED * chance]
    if trained < _SURE or len(avoided) < max(2, len(labels) / 3):
        return None
    own, by_chance = (sum(counts[k][i] for k in avoided) for i in (0, 1))
    return _mapped(
        f"{told.name} predicts {trained:.2f} of training and {float((told.val == told.val_labels).mean()):.2f} of "
        f"validation right; it predicts the classes {listed([str(k) for k in avoided])}, but only {own:.0f} samples "
        f"with these labels right, where chance gives {by_chance:.0f}",
        f"two classes or more, and a third of all, with at most {_AVOIDED:.0%} of the right predictions that chance "
        f"gives, {_BY_CHANCE} or more, in validation; and {_SURE:.0%} of training is right",
    )


def _own_and_by_chance(told: Told, label: int) -> tuple[float, float]:
    """How many samples of a validation class are predicted as it, and how many would be of any samples."""
    predicted = told.val[told.val_labels == label] == label
    return float(predicted.sum()), len(predicted) * float((told.val == label).mean())


def _mapped(measured: str, limit: str) -> Finding:
    return LABEL_MAP.finding(
        severity="error",
        where="validation labels",
        measured=measured,
        limit=limit,
        why="The network may be good, but its validation metrics do not show it.",
        remedy="Number the classes once for both: `classes = sorted(set(train_names)); index = {name: i for i, "
        "name in enumerate(classes)}; y_val = [index[name] for name in val_names]`.",
    )


LABEL_MAP = Check(
    codes=("data.label-map",),
    question="Does validation number the classes as training does?",
    run=_find_label_map,
    quick=False,
    explains="data.shift fit.*",
)
