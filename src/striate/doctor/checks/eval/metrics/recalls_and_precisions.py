"""Recalls that are precisions, or the reverse."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import torch

from striate.doctor.checks.eval.metrics.accumulated import makers_of, metric_after_update
from striate.doctor.checks.eval.metrics.known_inputs import ROUNDED, numbers_for, wrong_metric
from striate.doctor.checks.eval.script_evaluation import words_of
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import nodes_in
from striate.records import Finding

_PREDICTED = re.compile("pred|output|logit|argmax|hyp", re.IGNORECASE)
_TRUE = re.compile(r"target|label|true|truth|gold|\by\b", re.IGNORECASE)
_MOST_CLASSES, _OF_EACH = 1000, 4


def recalls_and_precisions(evidence: Evidence) -> Iterator[Finding]:
    """Findings for objects of the script that compute precisions as recalls, or the reverse. Their parameters must name
    the order of predictions and labels."""
    try:
        outputs = evidence.after_val.outputs
    except NoEvidence:
        return
    classes = outputs.shape[1] if outputs.ndim > 1 else 0
    if not 2 < classes <= _MOST_CLASSES:
        return
    labels = torch.arange(classes).repeat_interleave(_OF_EACH)
    predicted = labels.clone()
    predicted[: _OF_EACH // 2] = 1
    both = torch.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes).double()
    true = {"recall": both.diag() / both.sum(1), "precision": both.diag() / both.sum(0)}
    for owner, make, add, methods in makers_of(evidence.source):
        labels_first = _labels_first(evidence.source, add)
        pair = (labels, predicted) if labels_first else (predicted, labels)
        for method in methods if labels_first is not None else ():
            for name, key in _named_for(method, frozenset(true)):
                (named,) = words_of(name) & true.keys()
                (other,) = true.keys() - {named}
                numbers = numbers_for(metric_after_update(make, add.name, method.name, key), *pair)
                if _are(numbers, true[other]) and not _are(numbers, true[named]):
                    yield wrong_metric(
                        method.lineno,
                        f"`{name}` of `{owner.name}.{method.name}` gives the {other} for predictions whose recalls and "
                        "precisions are known",
                        "The sum runs over the other axis of the confusion matrix: a recall divides by the number of "
                        "samples of a class, a precision by the number of predictions of it.",
                        "with a row for each true class: `matrix.diag() / matrix.sum(1)` are recalls, "
                        "`matrix.diag() / matrix.sum(0)` precisions",
                        "a recall that equals the precision of known predictions, or the reverse",
                    )
                    return


def _are(numbers: tuple[float, ...], known: torch.Tensor) -> bool:
    """Whether numbers equal the `known` ones of the classes, or their mean, as fractions or in percent."""
    values = torch.tensor(numbers, dtype=torch.float64)
    known = known if len(numbers) > 1 else known.mean().reshape(1)
    return values.shape == known.shape and any(
        torch.allclose(values, scale * known, rtol=0, atol=scale * ROUNDED) for scale in (1.0, 100.0)
    )


def _labels_first(source: ScriptSource, add: ast.FunctionDef) -> bool | None:
    """Whether a method takes labels before predictions, by the names of its parameters; None where they do not say, or
    a call passes them in the other order."""
    order = _order(*(parameter.arg for parameter in add.args.args[1:3]))
    calls = [site.node.args for site in source.calls(add.name) if len(site.node.args) == 2]
    orders = {_order(*map(ast.unparse, arguments)) for arguments in calls}
    return None if order is None or (not order) in orders else order


def _order(one: str, other: str) -> bool | None:
    first, second = ((bool(_PREDICTED.search(name)), bool(_TRUE.search(name))) for name in (one, other))
    return {((True, False), (False, True)): False, ((False, True), (True, False)): True}.get((first, second))


def _named_for(method: ast.FunctionDef, words: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """The results of a method whose names have exactly one of these words, each with its key; None for a single
    result."""
    returned = [node.value for node in nodes_in(method, ast.Return)]
    names: list[tuple[str, Any]] = [(method.name, None)]
    if len(returned) == 1 and isinstance(returned[0], ast.Dict):
        names = [(str(key.value), key.value) for key in returned[0].keys if isinstance(key, ast.Constant)]
    yield from ((name, key) for name, key in names if len(words_of(name) & words) == 1)
