"""Accuracies that are not the share of right predictions."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch

from striate.doctor.checks.eval.metrics.known_inputs import CLASSES, FEW, ROUNDED, numbers_for, wrong_metric
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import main_tensor, parts
from striate.doctor.setup.script_source import ScriptSource
from striate.models.preserved_state import same_random_state
from striate.records import Finding
from striate.wording import listed, several

_IGNORED = -100
_FEWEST_CLASSES = 4
"""Of three, where all are wrong, each comparison by itself finds a third right."""


def wrong_accuracy(name: str, line: int, function: Callable[..., Any], *, padded: bool) -> Finding | None:
    few = torch.arange(FEW)
    moved = numbers_for(function, 10 * torch.eye(CLASSES)[few.roll(-1)], few)
    if any(abs(value - scale) < ROUNDED * scale for value in moved for scale in (1, 100)):
        return None  # of next tokens: it shifts them itself
    if _finds_neighbors(function):
        return None
    for targets, predicted, why in _known_accuracies(padded):
        given = numbers_for(function, 10 * torch.eye(CLASSES)[predicted], targets)
        right, counted = int((predicted == targets).sum()), int((targets != _IGNORED).sum())
        shares = (right / counted, 100 * right / counted, right)
        if not given:
            return None
        if any(abs(value - share) < ROUNDED * share for value in given for share in shares):
            continue
        said = listed([f"{value:.4g}" for value in given])
        return wrong_metric(
            line,
            f"`{name}` gives {said} for {several(counted, 'sample')}, {right} of which are right"
            + f", and {len(targets) - counted} without a label" * (counted < len(targets)),
            why,
            "compare classes and labels of the same shape, `(logits.argmax(-1) == labels).sum()`, and divide by the "
            "number of labels: `len(labels)`, not the usual batch size",
            "a function for an accuracy that does not give the share of right predictions",
        )
    return None


def knows_padding(source: ScriptSource, function: ast.FunctionDef) -> bool:
    """Whether a function leaves out labels that stand for none, by their number or its name."""
    parts = (part for part in ast.walk(function) if isinstance(part, ast.UnaryOp | ast.Name))
    return any(source.is_number(part, _IGNORED) for part in parts)


def _finds_neighbors(function: Callable[..., Any]) -> bool:
    """Whether it compares rows with each other, as of embeddings: what their columns are in order does not matter."""
    labels = torch.arange(FEW) // 2
    rows = 10 * torch.eye(CLASSES)[labels]
    told = [numbers_for(function, rows[:, torch.arange(CLASSES).roll(by)], labels) for by in (0, 1, 3)]
    return told[0] == told[1] == told[2] and any(0 < value < 1 for value in told[0])


def _known_accuracies(padded: bool) -> Iterator[tuple[torch.Tensor, torch.Tensor, str]]:
    """Labels and predicted classes, and what it means that an accuracy of these is wrong: few that are all right,
    three of each class, one of them right, and few with others that are not to be counted."""
    few, classes = torch.arange(FEW), torch.arange(CLASSES)
    yield few, few, "It divides by a number other than that of the samples: a short last batch counts as wrong."
    predicted = torch.cat([classes, classes.roll(1), classes.roll(2)])
    yield classes.repeat(3), predicted, "It counts something other than the largest output as right."
    if padded:
        why = "It leaves padding out of the count of right predictions, but divides by all positions."
        yield torch.cat([few, torch.full_like(few, _IGNORED)]), few.repeat(2), why


def right_zeros(evidence: Evidence, name: str, line: int, function: Callable[..., Any]) -> Finding | None:
    """An accuracy of labels that are one in a row of zeros, where each zero that is predicted counts."""
    wanted = next((main_tensor(parts(batch)[1]) for batch in evidence.val.raw), None)
    if wanted is None or wanted.ndim != 2 or wanted.shape[1] < _FEWEST_CLASSES or not _is_one_hot(wanted):
        return None
    wrong = wanted.roll(1, 1).float()
    with same_random_state(), suppress(Exception):  # of the user's, which was given what it is not for
        told = float(torch.as_tensor(function(wanted.clone(), wrong)).float().mean())
        if abs(told - (1 - 2 / wanted.shape[1])) < ROUNDED:
            return wrong_metric(
                line,
                f"`{name}` gives {told:.4g} for {several(len(wrong), 'sample')}, none of which is right: it compares "
                f"each of the {wanted.shape[1]} outputs by itself, though only one of them is 1",
                "Most outputs are zeros, as most targets are: a network that knows nothing is nearly always right.",
                "compare the largest output with the label: "
                "`(predicted.argmax(1) == targets.argmax(1)).float().mean()`",
                "a function for an accuracy that counts each zero of one-hot targets as a right prediction",
            )
    return None


def _is_one_hot(targets: torch.Tensor) -> bool:
    return bool(((targets == 0) | (targets == 1)).all() and (targets.sum(1) == 1).all())
