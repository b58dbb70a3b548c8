"""`data.label-map`: does validation number the classes as training does?"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.labels.class_numberings import numbered_twice
from striate.doctor.checks.data.labels.missing_class import validates_on_new_classes
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.corrections import corrections
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.neighbor_search import evaluates_by_neighbors
from striate.doctor.setup.batch import altered, is_binary
from striate.records import Finding
from striate.wording import listed, percent

_MOST_AS, _OWN, _KNOWN, _WITHIN = 0.4, 0.5, 0.4, 0.25
_FEWEST, _FEWEST_IN_CLASS = 8, 4
_AVOIDED, _BY_CHANCE, _SURE = 0.1, 6, 0.75
"""The largest ratio of right predictions of a class to those by chance, the fewest right ones by chance, and the least
training accuracy."""
_POSITIONS = 20_000
LABEL_MAP_LIMIT = (
    f"two or more classes, {percent(_MOST_AS, 0)} of each predicted as another class in validation, at most {_OWN:g} "
    f"times as many as itself, and {percent(_KNOWN, 0)} right in training; once renumbered, an accuracy within "
    f"{_WITHIN:g} of training"
)

_Whole = NDArray[np.int64]


@dataclass(frozen=True)
class ModelPredictions:
    """The predictions of a network or a simple model, for training (held-out samples where possible) and for
    validation."""

    name: str
    """Name of the model, in words."""
    train: _Whole
    """(N,)."""
    train_labels: _Whole
    val: _Whole
    """(M,)."""
    val_labels: _Whole
    simple_model: str = ""
    """Name of the simple model; empty for a network."""


def _find_label_map(evidence: Evidence) -> Iterable[Finding]:
    if (measured := numbered_twice(evidence)) is not None:
        yield _finding(measured, "names with different numbers in training and validation")
        return
    with suppress(NoEvidence):
        for found in _columns(evidence):
            yield found
            return
    if evaluates_by_neighbors(evidence):
        raise NoEvidence("validation embeddings are compared only with each other, whatever their class numbers")
    for model in _models(evidence):
        if validates_on_new_classes(evidence, torch.from_numpy(model.train_labels), torch.from_numpy(model.val_labels)):
            raise NoEvidence("validation has none of the classes of training: embeddings are evaluated on new classes")
        renumbering = renumbered(model)
        if renumbering is not None and not _inputs_explain(evidence, model, _SEEN_AS_OTHERS):
            yield renumbering
            return
        regrouping = regrouped(model) if evidence.samples.maps is None else None
        if regrouping is not None and not _inputs_explain(evidence, model, ("",)):
            yield regrouping
            return


_SEEN_AS_OTHERS = ("channels", "scale", "light", "shown", "cropped")
"""The beginnings of names of corrections that explain confused classes. Flips and rotations do not: a rotated image may
show another class."""


def _inputs_explain(evidence: Evidence, model: ModelPredictions, ways: tuple[str, ...]) -> bool:
    """Whether validation is predicted as well as training once its inputs are corrected. Exchanged colors or smaller
    images look like renumbered classes. `ways`: the beginnings of names of corrections to try."""
    val, trained = evidence.val_samples, float((model.train == model.train_labels).mean())
    with suppress(NoEvidence):
        known, x = (
            samples.sole_inputs if model.simple_model else samples.inputs for samples in (evidence.samples, val)
        )
        for way in corrections(known, x):
            if val.x_path is None or not way.what.startswith(ways):
                continue
            if model.simple_model:
                right = (
                    evidence.reference.predict(way.undo(x[: len(model.val)]), model.simple_model) == model.val_labels
                )
                corrected = float(right.mean())
            else:
                batches = [altered(batch, val.x_path, way.undo) for batch in evidence.val.raw[:16]]
                corrected = evidence.predictions_of(evidence.trial, batches).accuracy
            if corrected >= trained - _WITHIN:
                return True
    return False


def _columns(evidence: Evidence) -> list[Finding]:
    """For multi-label targets (N, K): a finding if outputs correlate with other columns of targets in validation than
    in training; else nothing."""
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
    return [_finding(measured, limit)]


def _correlations(outputs: torch.Tensor, targets: torch.Tensor | None) -> torch.Tensor | None:
    """Correlations (K, K) of outputs (N, K) with multi-label targets (N, K); None for other targets."""
    if targets is None or targets.ndim != 2 or outputs.shape != targets.shape or targets.shape[1] < 2:
        return None
    if not is_binary(targets) or bool((targets.sum(1) == 1).all()):
        return None
    a, b = (tensor.double() - tensor.double().mean(0) for tensor in (outputs, targets))
    scale = (a.square().sum(0)[:, None] * b.square().sum(0)[None]).sqrt()
    return torch.where(scale > 0, (a.T @ b) / scale.clamp_min(1e-12), torch.zeros(()).double())


def _of_positions(evidence: Evidence) -> Iterable[ModelPredictions]:
    """The predictions of the trial's network for positions of class maps."""
    if evidence.samples.maps is None or evidence.val_samples.maps is None:
        return
    found: list[_Whole] = []
    for predictions in (evidence.after, evidence.after_val):
        predicted, targets = predictions.predicted.flatten(), predictions.targets
        assert targets is not None
        every = max(1, len(predicted) // _POSITIONS)
        found += [tensor[::every].numpy().astype(np.int64) for tensor in (predicted, targets.flatten())]
    yield ModelPredictions("the trial's network", found[0], found[1], found[2], found[3])


def _models(evidence: Evidence) -> Iterable[ModelPredictions]:
    """The predictions of the trial's network, which exist already; then those of the best simple model."""
    if evidence.samples.maps is not None:
        yield from _of_positions(evidence)
        return
    labels = evidence.val_samples.labels
    try:
        after, val = evidence.after, evidence.after_val
        known = evidence.samples.labels[: len(after.outputs)]
        if len(known) != len(after.outputs) or len(val.outputs) > len(labels):
            raise NoEvidence("the network does not predict each sample once")
        yield ModelPredictions(
            "the trial's network",
            _predictions(after.outputs),
            known.numpy().astype(np.int64),
            _predictions(val.outputs),
            labels[: len(val.outputs)].numpy().astype(np.int64),
        )
    except NoEvidence:
        pass
    reference = evidence.reference
    x = evidence.val_samples.sole_inputs[:1000]
    if x.shape[1:] != evidence.samples.sole_inputs.shape[1:]:
        return
    if x.is_floating_point() and not bool(torch.isfinite(x).all()):
        return
    name = reference.best[0]
    yield ModelPredictions(
        f"a simple model ({name})",
        reference.out_of_fold[name].predictions,
        reference.labels,
        reference.predict(x, name),
        labels[: len(x)].numpy().astype(np.int64),
        name,
    )


def _predictions(outputs: torch.Tensor) -> _Whole:
    """The predicted classes of outputs (N, K) or (N,)."""
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        return outputs.argmax(1).numpy().astype(np.int64)
    if outputs.numel() != len(outputs):
        raise NoEvidence("the outputs are not classes")
    flat = outputs.flatten()
    limit = 0.5 if bool(((flat >= 0) & (flat <= 1)).all()) else 0.0
    return (flat > limit).numpy().astype(np.int64)


def _renumbering(model: ModelPredictions) -> dict[int, int]:
    """The training class of each renumbered validation class; empty if too few are renumbered to be sure."""
    recognized = {
        int(k): float((model.train[model.train_labels == k] == k).mean()) for k in np.unique(model.train_labels)
    }
    found, kept = dict[int, int](), set[int]()
    count = 0
    for label in np.unique(model.val_labels):
        predicted = model.val[model.val_labels == label]
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
        return {}  # the other classes keep their numbers: similar classes, not renumbered ones
    distinct = len(set(found.values()))
    return found if len(found) >= 2 and distinct >= max(2, 0.7 * len(found)) and count >= _FEWEST else {}


def _accuracy_renumbered(model: ModelPredictions, moved: dict[int, int]) -> float:
    """The validation accuracy with renumbered classes."""
    return float((model.val == np.array([moved.get(int(k), int(k)) for k in model.val_labels])).mean())


def renumbered(model: ModelPredictions) -> Finding | None:
    """A finding if validation is predicted as well as training once its classes are renumbered; else None."""
    moved, trained = _renumbering(model), float((model.train == model.train_labels).mean())
    if not moved or _accuracy_renumbered(model, moved) < trained - _WITHIN:
        return None
    own, fixed = float((model.val == model.val_labels).mean()), _accuracy_renumbered(model, moved)
    shown = ", ".join(f"{a} → {b}" for a, b in list(moved.items())[:8]) + (" …" if len(moved) > 8 else "")
    return _finding(
        f"{model.name} predicts {trained:.2f} of training and {own:.2f} of validation right, and {fixed:.2f} of "
        f"validation with renumbered classes: {shown}",
        LABEL_MAP_LIMIT,
    )


def regrouped(model: ModelPredictions) -> Finding | None:
    """A finding if validation contains samples of several classes, but under other labels, such as where its classes
    are merged differently; else None."""
    trained, labels = float((model.train == model.train_labels).mean()), np.unique(model.val_labels)
    counts = {int(label): _own_and_by_chance(model, label) for label in labels}
    avoided = [k for k, (own, chance) in counts.items() if chance >= _BY_CHANCE and own <= _AVOIDED * chance]
    if trained < _SURE or len(avoided) < max(2, len(labels) / 3):
        return None
    own, by_chance = (sum(counts[k][i] for k in avoided) for i in (0, 1))
    return _finding(
        f"{model.name} predicts {trained:.2f} of training and {float((model.val == model.val_labels).mean()):.2f} of "
        f"validation right; it predicts the classes {listed([str(k) for k in avoided])}, but only {own:.0f} samples "
        f"with these labels right, where chance gives {by_chance:.0f}",
        f"two or more classes, and a third of all, with at most {percent(_AVOIDED, 0)} of the right predictions by "
        f"chance ({_BY_CHANCE} or more) in validation; and a training accuracy of {percent(_SURE, 0)}",
    )


def _own_and_by_chance(model: ModelPredictions, label: int) -> tuple[float, float]:
    """The number of samples of a validation class that are predicted right, and the number by chance."""
    predicted = model.val[model.val_labels == label] == label
    return float(predicted.sum()), len(predicted) * float((model.val == label).mean())


def _finding(measured: str, limit: str) -> Finding:
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
    run=_find_label_map,
    quick=False,
    explains="data.shift fit.*",
)
