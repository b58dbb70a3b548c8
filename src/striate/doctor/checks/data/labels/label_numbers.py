"""Labels whose numbers are wrong: `data.label-range`, and `data.label-map` between training and validation."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.labels.class_balance import tried_with_others
from striate.doctor.checks.data.labels.numberings import numbered_twice
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.corrections import corrections
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.nearest_within import compared_within
from striate.doctor.setup.batch import altered
from striate.errors import one_line
from striate.records import Finding
from striate.wording import listed, several

LABEL_RANGE_THRESHOLD = (
    "0 to K − 1 for K outputs, 0 or 1 for one; values that the loss ignores (`ignore_index`) are accepted"
)
_FAR = 30.0
_BEYOND = re.compile(r"Target -?\d+ is out of bounds|Class values must be (smaller than num_classes|non-negative)")


def _find_label_range(evidence: Evidence) -> Iterable[Finding]:
    if not evidence.setup.classifies:
        raise NoEvidence(f"the task is {evidence.setup.task}")
    outputs = evidence.first.loss_outputs if evidence.first.loss_outputs is not None else evidence.first.outputs
    y = evidence.samples.y
    if not isinstance(outputs, torch.Tensor) or y is None or not outputs.ndim:
        raise NoEvidence("no outputs and targets were recorded")
    if y.is_floating_point():
        return _fractions(evidence, outputs, y)
    return list(_whole(evidence, outputs, y)) or _made_by_step(evidence, outputs, y)


def _made_by_step(evidence: Evidence, outputs: torch.Tensor, y: torch.Tensor) -> Iterable[Finding]:
    """A loss that has no output for a label which is none of the loader's: the step makes it."""
    text = one_line(str(evidence.trial.error or ""))
    found = _BEYOND.search(text)
    if found is None or evidence.trial.rows or not y.numel() or outputs.ndim < 2:
        return
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= outputs.shape[1]:
        return
    yield LABEL_RANGE.finding(
        severity="error",
        where="the training step",
        measured=f"the first step raises {type(evidence.trial.error).__name__}: {text[:120]}; the loader's labels "
        f"are {low} to {high} for {several(int(outputs.shape[1]), 'output')}, so the step changes them",
        why="No output belongs to such a class: training stops.",
        remedy="pass the loss the labels of the loader unchanged: `loss = criterion(model(x), y)`",
    )


def _whole(evidence: Evidence, outputs: torch.Tensor, y: torch.Tensor) -> Iterable[Finding]:
    if y.ndim == 2 and y.shape[1] == 1 and outputs.ndim == 2:
        y = y[:, 0]
    if outputs.ndim != y.ndim + 1 or outputs.shape[1] < 2:
        return
    if evidence.samples.plain is False:  # the step makes others of them, which are judged where it fails
        seen = evidence.first.loss_targets
        if evidence.trial.error is None or not isinstance(seen, torch.Tensor) or seen.is_floating_point():
            return
        y = seen.cpu()
    classes = int(outputs.shape[1])
    odd = y[(y < 0) | (y >= classes)]
    for value in odd.unique().tolist():
        what = _what_comes_of(evidence, outputs, y, int(value))
        if what:
            yield _told(y, classes, f"the loss {what}")
            return


def _what_comes_of(evidence: Evidence, outputs: torch.Tensor, y: torch.Tensor, value: int) -> str:
    """What the loss makes of a label: nothing (then the text is empty), an error, or a number as of any other."""
    error = evidence.trial.error
    told = f"raises {type(error).__name__}: {one_line(str(error))[:120]}" if error is not None else ""
    if not evidence.setup.own_step and evidence.samples.plain is None:
        return told  # the step has a loss of its own, which cannot be asked
    made = torch.zeros((2, *outputs.shape[1:]), dtype=outputs.dtype)
    shape = (2, *y.shape[1:])
    good = _loss(evidence, made, torch.zeros(shape, dtype=y.dtype))
    bad = _loss(evidence, made, torch.full(shape, value, dtype=y.dtype))
    if isinstance(good, Exception):
        return told
    if isinstance(bad, Exception):
        return f"raises {type(bad).__name__}: {one_line(str(bad))[:120]}"
    if not math.isfinite(bad) or bad == 0:
        return ""
    made = torch.randn(made.shape, generator=torch.Generator().manual_seed(0)).to(outputs.dtype)
    odd, *others = (_loss(evidence, made, torch.full(shape, k, dtype=y.dtype)) for k in (value, *range(made.shape[1])))
    # else a class of its own, as of ordered thresholds
    taken = isinstance(odd, float) and any(math.isclose(odd, k, rel_tol=1e-5) for k in others if isinstance(k, float))
    return "takes it for another class" if taken else ""


def _loss(evidence: Evidence, outputs: torch.Tensor, targets: torch.Tensor) -> float | Exception:
    place = evidence.setup.device
    try:
        with torch.no_grad():
            return float(evidence.fresh.loss(outputs.to(place), targets.to(place)))
    except Exception as error:  # what the user's loss raises for such labels is what is asked
        return error


def _fractions(evidence: Evidence, outputs: torch.Tensor, y: torch.Tensor) -> Iterable[Finding]:
    """Targets of a binary cross entropy: beyond 0 and 1 it has no least value."""
    odd = y[(y < 0) | (y > 1)]
    if not odd.numel() or outputs.numel() / len(outputs) != y.numel() / len(y) or evidence.samples.plain is False:
        return
    rows = ((y < 0) | (y > 1)).reshape(len(y), -1).any(1)
    wanted = y[rows][:64]
    share = bool(((outputs >= 0) & (outputs <= 1)).all())
    prediction = (wanted > 0.5).to(outputs.dtype) if share else _FAR * (wanted - 0.5).sign().to(outputs.dtype)
    value = _loss(evidence, prediction.reshape(len(prediction), *outputs.shape[1:]), wanted.to(outputs.dtype))
    if isinstance(value, float) and value < -0.1:
        found = ", ".join(f"{v:g}" for v in odd.unique().tolist()[:5])
        yield _told(y, 2, f"falls to {value:.3g} for confident predictions of them ({found})")


def _told(y: torch.Tensor, classes: int, what: str) -> Finding:
    whole = not y.is_floating_point()
    low, high = (f"{float(v):g}" for v in (y.min(), y.max()))
    odd = (y < 0) | (y >= classes) if whole else (y < 0) | (y > 1)
    count = int(odd.reshape(len(y), -1).any(1).sum())
    outputs = several(classes, "output") if whole else "one output"
    if whole and int(y.min()) == 1 and int(y.max()) == classes:
        remedy = "Classes count from 0: `y = y - 1` in the data set."
    elif not whole and float(y.min()) == -1:
        remedy = "Use 0 and 1: `y = (y + 1) / 2`."
    elif not whole:
        remedy = f"Use 0 and 1: `y = (y - {low}) / ({high} - {low})`."
    elif int(y.min()) < 0 and int(y.max()) < classes:
        remedy = (
            "Remove such samples (`keep = y >= 0`), or let the loss ignore them: "
            f"`CrossEntropyLoss(ignore_index={low})`."
        )
    else:
        remedy = (
            f"Number the classes from 0 (`names = sorted(set(y)); y = [names.index(v) for v in y]`), or give the last "
            f"layer {several(int(y.max()) + 1, 'output')}."
        )
    return LABEL_RANGE.finding(
        severity="error",
        where="training targets",
        measured=f"targets from {low} to {high} for {outputs}; {several(count, 'sample is', 'samples are')} out of "
        f"range; {what}",
        why="No output belongs to such a class: training stops, or trains the wrong output.",
        remedy=remedy,
    )


LABEL_RANGE = Check(
    codes=("data.label-range",),
    question="Does the network have an output for every label?",
    threshold=LABEL_RANGE_THRESHOLD,
    run=_find_label_range,
    explains=(
        "data.imbalance data.label-noise data.labels-random data.missing-class loss.degenerate "
        "loss.not-finite loss.sign model.collapsed fit.*"
    ),
)


MOST_AS, OWN, KNOWN, MENDED = 0.4, 0.5, 0.4, 0.25
_FEWEST, _FEWEST_IN_CLASS = 8, 4
_AVOIDED, _BY_CHANCE, _SURE = 0.1, 6, 0.75
"""Of the samples of a class that are right by chance, and how many these are; of training, predicted right."""
_POSITIONS = 20_000
LABEL_MAP_LIMIT = (
    f"two classes or more, {MOST_AS:.0%} of each predicted as another one in validation, at most {OWN:.0%} of that "
    f"as itself, and {KNOWN:.0%} right in training; renumbered, within {MENDED:g} of training"
)

Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Told:
    """What someone predicts: of training (samples that were not learned, where possible) and of validation."""

    name: str
    train: Whole
    train_labels: Whole
    val: Whole
    val_labels: Whole
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
    if compared_within(evidence):
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
                right = evidence.reference.ask(way.undo(val.inputs[: len(told.val)]), told.model) == told.val_labels
                mended = float(right.mean())
            else:
                batches = [altered(batch, val.x_path, way.undo) for batch in evidence.val.raw[:16]]
                mended = evidence.predictions_of(evidence.trial, batches).accuracy
            if mended >= trained - MENDED:
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
        if float(known[column, column]) >= KNOWN
        and float(seen[:, column].max()) >= KNOWN
        and float(seen[column, column]) <= OWN * float(seen[:, column].max())
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
        f"outputs of two or more labels that correlate by {KNOWN:g} with their labels in training, and in validation "
    )
    limit += f"at most {OWN:g} times as much as with other labels"
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
    found: list[Whole] = []
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
        reference.opinions[name].predictions,
        reference.labels,
        reference.ask(x, name),
        labels[: len(x)].numpy().astype(np.int64),
        name,
    )


def _predictions(outputs: torch.Tensor) -> Whole:
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
        believed = recognized.get(other, 0.0) >= KNOWN and recognized.get(int(label), 1.0) >= KNOWN
        if (
            other != label
            and counts.max() >= MOST_AS * len(predicted)
            and own * len(predicted) <= OWN * counts.max()
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
    if not moved or _right(told, moved) < trained - MENDED:
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
