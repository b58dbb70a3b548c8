"""Validation that numbers its classes otherwise than training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding

MOST_AS, OWN, KNOWN, MENDED = 0.5, 0.25, 0.5, 0.25
_FEWEST, _FEWEST_IN_CLASS = 8, 4
THRESHOLD = (
    f"two classes or more of which {MOST_AS:.0%} of validation is taken for one other class and {OWN:.0%} at most for "
    f"itself, each for another one, though of training {KNOWN:.0%} of these classes are recognized; renumbered, "
    f"validation must come within {MENDED:g} of training"
)

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class _Told:
    """What someone answers: of training (samples that were not learned, where possible) and of validation."""

    name: str
    train: Whole
    train_labels: Whole
    val: Whole
    val_labels: Whole


def _run(evidence: Evidence) -> Iterable[Finding]:
    for told in _opinions(evidence):
        moved = _moved(told)
        if moved and _right(told, moved) >= float((told.train == told.train_labels).mean()) - MENDED:
            yield _finding(told, moved)
            return


def _opinions(evidence: Evidence) -> Iterable[_Told]:
    """The trial's network first, which is there already; then the best simple model."""
    labels = evidence.val_samples.labels
    try:
        after, val = evidence.after, evidence.after_val
        known = evidence.samples.labels[: len(after.outputs)]
        if len(known) != len(after.outputs) or len(val.outputs) > len(labels):
            raise NoEvidence("the network does not answer each sample once")
        yield _Told(
            "the trial's network",
            _answers(after.outputs),
            known.numpy().astype(np.int64),
            _answers(val.outputs),
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
    yield _Told(
        f"a simple model ({name})",
        reference.opinions[name].answers,
        reference.labels,
        reference.ask(x, name),
        labels[: len(x)].numpy().astype(np.int64),
    )


def _answers(outputs: torch.Tensor) -> Whole:
    """The classes that outputs (N, K) or (N,) stand for."""
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        return outputs.argmax(1).numpy().astype(np.int64)
    if outputs.numel() != len(outputs):
        raise NoEvidence("the outputs are no classes")
    flat = outputs.flatten()
    limit = 0.5 if bool(((flat >= 0) & (flat <= 1)).all()) else 0.0
    return (flat > limit).numpy().astype(np.int64)


def _moved(told: _Told) -> dict[int, int]:
    """By class of validation the class of training that it is; none where too few are moved to be sure."""
    recognized = {int(k): float((told.train[told.train_labels == k] == k).mean()) for k in np.unique(told.train_labels)}
    found: dict[int, int] = {}
    count = 0
    for label in np.unique(told.val_labels):
        answered = told.val[told.val_labels == label]
        if len(answered) < _FEWEST_IN_CLASS:
            continue
        values, counts = np.unique(answered, return_counts=True)
        other = int(values[counts.argmax()])
        own = float((answered == label).mean())
        believed = recognized.get(other, 0.0) >= KNOWN and recognized.get(int(label), 1.0) >= KNOWN
        if other != label and counts.max() >= MOST_AS * len(answered) and own <= OWN and believed:
            found[int(label)] = other
            count += len(answered)
    distinct = len(set(found.values()))
    return found if len(found) >= 2 and distinct >= max(2, 0.7 * len(found)) and count >= _FEWEST else {}


def _right(told: _Told, moved: dict[int, int]) -> float:
    """The share of validation that is right once its classes are renumbered."""
    return float((told.val == np.array([moved.get(int(k), int(k)) for k in told.val_labels])).mean())


def _finding(told: _Told, moved: dict[int, int]) -> Finding:
    own = float((told.val == told.val_labels).mean())
    mended = _right(told, moved)
    trained = float((told.train == told.train_labels).mean())
    shown = ", ".join(f"{a} → {b}" for a, b in list(moved.items())[:8]) + (" …" if len(moved) > 8 else "")
    return Finding(
        code="data.label-map",
        severity="error",
        where="validation labels",
        measured=f"{told.name} answers {trained:.2f} of training and {own:.2f} of validation right, {mended:.2f} of "
        f"validation with its classes renumbered: {shown}",
        threshold=THRESHOLD,
        why="The network may be good, and its validation figures say nothing of it.",
        remedy="Number the classes once, for both: `classes = sorted(set(train_names)); index = {name: i for i, name "
        "in enumerate(classes)}; y_val = [index[name] for name in val_names]`.",
    )


CHECK = Check(
    codes=("data.label-map",),
    question="Does validation number the classes as training does?",
    threshold=THRESHOLD,
    run=_run,
    quick=False,
    explains="data.shift fit.*",
)
