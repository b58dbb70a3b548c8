"""Metrics that the script computes for a library's trainer, called with predictions that are all right."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import torch
from torch.nn import functional

from striate.doctor.checks.eval.script_evaluation import MOST_STEPS, need_repeatable, numbers_of
from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import class_losses
from striate.doctor.setup.batch import is_binary
from striate.models.preserved_state import preserved, same_random_state
from striate.records import Finding
from striate.wording import several

PERFECT = 0.98
_SURE = 20.0
_MOST_NUMBERS = 20_000_000
_SHARES = frozenset(("acc", "accuracy", "f1", "precision", "recall", "iou", "miou", "dice", "jaccard"))
_OF_CLASSES = frozenset(("macro", "balanced", "class", "mean", "avg", "average"))
_KINDS = _OF_CLASSES | frozenset((
    "eval", "val", "valid", "test", "token", "tokens", "tag", "tags", "word", "words", "entity", "entities", "masked",
    "pixel", "micro", "weighted", "overall", "score", "exact", "subset", "next",
))  # fmt: skip
"""Words in the name of a metric that is still 1 if all is right; `precision_at_5`, say, need not be."""


def wrong_library_metrics(evidence: Evidence) -> Iterator[Finding]:
    """Metrics that should be 1 by their names if all predictions are right, and are less."""
    try:
        yield from _metrics_below_one(evidence)
    except OutOfTime:
        raise
    except NoEvidence:
        return


def _metrics_below_one(evidence: Evidence) -> Iterator[Finding]:
    metrics, labels = perfect_shares(evidence)
    for name in metrics[0] if metrics else ():
        best = max(form.get(name, 1.0) for form in metrics)
        if best < PERFECT:
            yield _finding(evidence, name, best, labels)
            return


def perfect_shares(evidence: Evidence) -> tuple[list[dict[str, float]], torch.Tensor]:
    """The metrics of the user's function, such as `compute_metrics`, for perfect predictions, by name, and the labels:
    once with each label predicted at its position, and for sequences once more with each at the position before. Only
    metrics that are shares of right predictions. Raises NoEvidence where the function cannot be called."""
    source, val = evidence.source, evidence.val
    user_function = None if source.library is None else source.library.metric_function
    if user_function is None or not val.whole:
        raise NoEvidence("no function computes metrics from all predictions")
    need_repeatable(source, user_function.name)
    evidence.clock.need(MOST_STEPS * len(val.raw) * evidence.step_seconds)
    model = evidence.setup.model
    try:
        with preserved(model), same_random_state():
            outputs, labels = user_function.predict(model, val.raw)
            complete, forms = is_complete(outputs, labels), perfect_outputs(evidence, outputs, labels)
            if outputs.numel() > _MOST_NUMBERS:
                raise NoEvidence("the outputs are too large")
            return [_shares(user_function.compute(perfect, labels.clone()), complete) for perfect in forms], labels
    except Exception as error:  # the user's function, which may not take these inputs
        raise NoEvidence(f"{user_function.name} cannot be called: {type(error).__name__}") from error


def _shares(returned: object, complete: bool) -> dict[str, float]:
    """The shares of right predictions in a returned dict, by name; percents as fractions."""
    found: dict[str, float] = {}
    for name, value in returned.items() if isinstance(returned, dict) else ():
        numbers = list(numbers_of(value.item() if hasattr(value, "item") else value))
        if len(numbers) == 1 and is_share(words_of(str(name)), complete):
            found[str(name)] = as_share(numbers[0])
    return found


def words_of(name: str) -> set[str]:
    """The words of a metric's name, in lower case."""
    return {word for word in re.split(r"[^a-z0-9@]+", name.lower()) if word}


def as_share(number: float) -> float:
    """A share as a fraction, from a fraction or a percentage."""
    return number / 100 if number > 1 + PERFECT else number


def is_share(words: set[str], complete: bool) -> bool:
    """Whether a metric with these words in its name is 1 if all predictions are right. A mean over classes is only if
    the data are `complete`."""
    plain = words & {"acc", "accuracy"} and not words & _OF_CLASSES
    return bool(words & _SHARES) and words <= _SHARES | _KINDS and bool(plain or complete)


def perfect_outputs(evidence: Evidence, outputs: torch.Tensor, labels: torch.Tensor) -> Iterator[torch.Tensor]:
    """The outputs of a perfect network, in each form that such outputs can have: classes along the last axis or axis 1,
    each label at its own position or, as in a language model, at the one before."""
    if not outputs.is_floating_point():
        return
    if outputs.numel() == labels.numel():
        if (
            is_binary(labels)
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
        for shifted in (labels, labels.roll(-1, 1)) if labels.ndim == 2 else (labels,):
            one_hot = functional.one_hot(shifted.long().clamp(min=0), classes).to(outputs.dtype)
            yield _SURE * (2 * one_hot - 1).movedim(-1, axis)


def is_complete(outputs: torch.Tensor, labels: torch.Tensor) -> bool:
    """Whether each class occurs, and each row of binary labels has a 1: metrics of absent classes are often 0."""
    if outputs.numel() == labels.numel():
        rows = labels.reshape(len(labels), -1)
        return bool(
            (rows == 1).any(0).all() and (rows == 0).any(0).all() and ((rows == 1).any(1).all() or rows.shape[1] == 1)
        )
    known = labels[labels >= 0].unique()
    return len(known) == (outputs.shape[-1] if outputs.shape[:-1] == labels.shape else outputs.shape[1])


def _finding(evidence: Evidence, name: str, value: float, labels: torch.Tensor) -> Finding:
    library = evidence.source.library
    function = "" if library is None or library.metric_function is None else library.metric_function.name
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
        threshold=f"a metric that has to be 1, by its name, but is below {PERFECT} for predictions that are all right",
        why="A perfect network would not get a perfect score: the count and its divisor cover different samples.",
        remedy="count only the labels that are given, and divide by their number: `known = labels != -100`, "
        "`((predicted == labels) & known).sum() / known.sum()`",
    )
