"""Accuracies that are not the share of right predictions."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch

from striate.doctor.checks.eval.metrics.known_inputs import CLASSES, FEW, ROUNDED, numbers_for, wrong_metric
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import is_binary, main_tensor, parts
from striate.doctor.setup.script_source import ScriptSource
from striate.models.preserved_state import same_random_state
from striate.records import Finding
from striate.wording import listed, several

_IGNORED = -100
_FEWEST_CLASSES = 4
"""With three classes, comparing each output by itself finds a third right even if all predictions are wrong."""


_NO_CLASS, _PADDING = -1, (0, 1)
"""Numbers that often stand for padding, which an accuracy of tokens leaves out."""


def wrong_accuracy(name: str, line: int, function: Callable[..., Any], *, padded: bool) -> Finding | None:
    """The finding for a function, named as an accuracy, that does not return the share of right predictions; None for
    right functions, and for those that compute something else. `padded`: the function ignores padding."""
    few = torch.arange(FEW)
    moved = numbers_for(function, 10 * torch.eye(CLASSES)[few.roll(-1)], few)
    if any(abs(value - scale) < ROUNDED * scale for value in moved for scale in (1, 100)):
        return None  # an accuracy of next tokens: it shifts the labels itself
    if _finds_neighbors(function):
        return None
    found = [_wrong_share(name, line, function, padded, left_out) for left_out in (_NO_CLASS, *_PADDING)]
    return found[0] if all(found) else None


def _wrong_share(name: str, line: int, function: Callable[..., Any], padded: bool, left_out: int) -> Finding | None:
    """The finding for an accuracy that is wrong for labels without one class, which may stand for padding."""
    for labels, classes, why in _known_accuracies(padded):
        targets, predicted = labels[labels != left_out], classes[labels != left_out]
        values = numbers_for(function, 10 * torch.eye(CLASSES)[predicted], targets)
        right, counted = int((predicted == targets).sum()), int((targets != _IGNORED).sum())
        shares = (right / counted, 100 * right / counted, right)
        if not values:
            return None
        if any(abs(value - share) < ROUNDED * share for value in values for share in shares):
            continue
        text = listed([f"{value:.4g}" for value in values])
        return wrong_metric(
            line,
            f"`{name}` gives {text} for {several(counted, 'sample')}, {right} of which are right"
            + f", and {len(targets) - counted} without a label" * (counted < len(targets)),
            why,
            "compare classes and labels of the same shape, `(logits.argmax(-1) == labels).sum()`, and divide by the "
            "number of labels: `len(labels)`, not the usual batch size",
            "a function for an accuracy that does not give the share of right predictions",
        )
    return None


def knows_padding(source: ScriptSource, function: ast.FunctionDef) -> bool:
    """Whether a function handles ignored labels, -100 or a variable of this value."""
    parts = (part for part in ast.walk(function) if isinstance(part, ast.UnaryOp | ast.Name))
    return any(source.is_number(part, _IGNORED) for part in parts)


def _finds_neighbors(function: Callable[..., Any]) -> bool:
    """Whether a function compares rows with each other, as embeddings: the order of columns does not matter to it."""
    labels = torch.arange(FEW) // 2
    rows = 10 * torch.eye(CLASSES)[labels]
    values = [numbers_for(function, rows[:, torch.arange(CLASSES).roll(by)], labels) for by in (0, 1, 3)]
    return values[0] == values[1] == values[2] and any(0 < value < 1 for value in values[0])


def _known_accuracies(padded: bool) -> Iterator[tuple[torch.Tensor, torch.Tensor, str]]:
    """Labels, predicted classes, and the cause if an accuracy of these is wrong: a few samples that are all right;
    three samples of each class, one of them right; with `padded`, a few samples and as many ignored ones."""
    few, classes = torch.arange(FEW), torch.arange(CLASSES)
    yield few, few, "It divides by a number other than that of the samples: a short last batch counts as wrong."
    predicted = torch.cat([classes, classes.roll(1), classes.roll(2)])
    yield classes.repeat(3), predicted, "It counts something other than the largest output as right."
    if padded:
        why = "It leaves padding out of the count of right predictions, but divides by all positions."
        yield torch.cat([few, torch.full_like(few, _IGNORED)]), few.repeat(2), why


def right_zeros(evidence: Evidence, name: str, line: int, function: Callable[..., Any]) -> Finding | None:
    """The finding for an accuracy of one-hot labels that counts each predicted zero as right; None for others."""
    labels = next((main_tensor(parts(batch)[1]) for batch in evidence.val.raw), None)
    if labels is None or labels.ndim != 2 or labels.shape[1] < _FEWEST_CLASSES or not _is_one_hot(labels):
        return None
    wrong = labels.roll(1, 1).float()
    with same_random_state(), suppress(Exception):  # the user's function, which may not take these inputs
        accuracy = float(torch.as_tensor(function(labels.clone(), wrong)).float().mean())
        if abs(accuracy - (1 - 2 / labels.shape[1])) < ROUNDED:
            return wrong_metric(
                line,
                f"`{name}` gives {accuracy:.4g} for {several(len(wrong), 'sample')}, none of which is right: it "
                f"compares each of the {labels.shape[1]} outputs by itself, though only one of them is 1",
                "Most outputs are zeros, as most targets are: a network that knows nothing is nearly always right.",
                "compare the largest output with the label: "
                "`(predicted.argmax(1) == targets.argmax(1)).float().mean()`",
                "a function for an accuracy that counts each zero of one-hot targets as a right prediction",
            )
    return None


def _is_one_hot(targets: torch.Tensor) -> bool:
    return is_binary(targets) and bool((targets.sum(1) == 1).all())
