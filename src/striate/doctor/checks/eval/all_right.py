"""Metrics that a library's trainer lets the script compute, asked for predictions that are all right."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import torch
from torch.nn import functional

from striate.doctor.checks.eval.evaluated import MOST_STEPS, numbers_of, validated_twice
from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import class_losses
from striate.models.preserved_state import preserved, same_random_state
from striate.records import Finding
from striate.wording import several

RIGHT = 0.98
_SURE = 20.0
_MOST_NUMBERS = 20_000_000
_SHARES = frozenset(("acc", "accuracy", "f1", "precision", "recall", "iou", "miou", "dice", "jaccard"))
_OF_CLASSES = frozenset(("macro", "balanced", "class", "mean", "avg", "average"))
_KINDS = _OF_CLASSES | frozenset((
    "eval", "val", "valid", "test", "token", "tokens", "tag", "tags", "word", "words", "entity", "entities", "masked",
    "pixel", "micro", "weighted", "overall", "score", "exact", "subset", "next",
))  # fmt: skip
"""Words that leave a share one that is 1 where all is right; who knows what `precision_at_5` is."""


def untrue_of_right(evidence: Evidence) -> Iterator[Finding]:
    """What is named a share of right predictions, and is less than 1 where all are right."""
    try:
        yield from _untrue(evidence)
    except OutOfTime:
        raise
    except NoEvidence:
        return


def _untrue(evidence: Evidence) -> Iterator[Finding]:
    answers, labels = shares_of_right(evidence)
    for name in answers[0] if answers else ():
        best = max(given.get(name, 1.0) for given in answers)
        if best < RIGHT:
            yield _finding(evidence, name, best, labels)
            return


def shares_of_right(evidence: Evidence) -> tuple[list[dict[str, float]], torch.Tensor]:
    """What the function of the user's that judges all predictions names shares of right ones, of labels, each of which
    is predicted at its place; then, of sequences, of such that are predicted one position before; and the labels.
    Raises NoEvidence where it cannot be asked."""
    judge, source, val = getattr(evidence.source.library, "judge", None), evidence.source, evidence.val
    if judge is None or not val.whole:
        raise NoEvidence("no function computes metrics from all predictions")
    validated_twice(source, judge.name)
    evidence.clock.need(MOST_STEPS * len(val.raw) * evidence.step_seconds)
    model = evidence.setup.model
    try:
        with preserved(model), same_random_state():
            outputs, labels = judge.predict(model, val.raw)
            complete, forms = is_complete(outputs, labels), all_right(evidence, outputs, labels)
            if outputs.numel() > _MOST_NUMBERS:
                raise NoEvidence("the outputs are too large")
            return [_shares(judge.compute(perfect, labels.clone()), complete) for perfect in forms], labels
    except Exception as error:  # the user's function, which was given what it is not for
        raise NoEvidence(f"{judge.name} cannot be called: {type(error).__name__}") from error


def _shares(given: object, complete: bool) -> dict[str, float]:
    """Of what is returned the shares of right predictions, by name; percents as shares."""
    found: dict[str, float] = {}
    for name, value in given.items() if isinstance(given, dict) else ():
        numbers = list(numbers_of(value.item() if hasattr(value, "item") else value))
        if len(numbers) == 1 and is_share(words_of(str(name)), complete):
            found[str(name)] = as_share(numbers[0])
    return found


def words_of(name: str) -> set[str]:
    """The words of a metric's name, in small letters."""
    return {word for word in re.split(r"[^a-z0-9@]+", name.lower()) if word}


def as_share(number: float) -> float:
    """A share as it is, or in percent."""
    return number / 100 if number > 1 + RIGHT else number


def is_share(words: set[str], complete: bool) -> bool:
    """Whether the words of a name say that it is 1 where all is right; a mean over classes only where each is there."""
    plain = words & {"acc", "accuracy"} and not words & _OF_CLASSES
    return bool(words & _SHARES) and words <= _SHARES | _KINDS and bool(plain or complete)


def all_right(evidence: Evidence, outputs: torch.Tensor, labels: torch.Tensor) -> Iterator[torch.Tensor]:
    """What a perfect network would give, in the forms that such outputs can have: class by class along either axis,
    at its own position or, as of a language model, at the one before."""
    if not outputs.is_floating_point():
        return
    if outputs.numel() == labels.numel():
        if (
            _is_binary(labels)
            and is_complete(outputs, labels)
            and any(call.name.startswith("binary_cross") for call in evidence.calls.losses)
        ):
            yield _SURE * (2 * labels.reshape(outputs.shape).to(outputs.dtype) - 1)
        return
    if labels.is_floating_point() or outputs.ndim != labels.ndim + 1 or not any(class_losses(evidence)):
        return
    for axis in (-1, 1):
        classes = outputs.shape[axis]
        if outputs.movedim(axis, -1).shape[:-1] != labels.shape or int(labels.max()) >= classes:
            continue
        for wanted in (labels, labels.roll(-1, 1)) if labels.ndim == 2 else (labels,):
            one_hot = functional.one_hot(wanted.long().clamp(min=0), classes).to(outputs.dtype)
            yield _SURE * (2 * one_hot - 1).movedim(-1, axis)


def _is_binary(labels: torch.Tensor) -> bool:
    return bool(((labels == 0) | (labels == 1)).all())


def is_complete(outputs: torch.Tensor, labels: torch.Tensor) -> bool:
    """Whether each class is somewhere, and each row of several ones and zeros has a one: a share of none is often
    called 0."""
    if outputs.numel() == labels.numel():
        rows = labels.reshape(len(labels), -1)
        return bool(
            (rows == 1).any(0).all() and (rows == 0).any(0).all() and ((rows == 1).any(1).all() or rows.shape[1] == 1)
        )
    known = labels[labels >= 0].unique()
    return len(known) == (outputs.shape[-1] if outputs.shape[:-1] == labels.shape else outputs.shape[1])


def _finding(evidence: Evidence, name: str, value: float, labels: torch.Tensor) -> Finding:
    function = getattr(getattr(evidence.source.library, "judge", None), "name", "")
    lines = [node.lineno for node in evidence.source.nodes(ast.FunctionDef) if node.name == function]
    counted = int((labels >= 0).sum())
    ignored = labels.numel() - counted
    padding = f", and {ignored:,} of padding" if ignored else ""
    return Finding(
        code="eval.wrong-count",
        severity="error",
        where=f"line {lines[0]}" if lines else "the validation",
        measured=f"`{function}` gives `{name}` {value:.4g} for {several(counted, 'label')}, all of which are predicted "
        f"right{padding}",
        threshold=f"a metric that has to be 1, by its name, but is below {RIGHT} for predictions that are all right",
        why="A perfect network would not get a perfect score: the count and its divisor are not of the same samples.",
        remedy="count only the labels that are given, and divide by their number: `known = labels != -100`, "
        "`((predicted == labels) & known).sum() / known.sum()`",
    )
