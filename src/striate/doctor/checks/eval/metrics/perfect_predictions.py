"""Errors that are not 0 and overlaps that are not 1 where predictions equal their targets, and overlaps that are
another metric where a part of the predictions is wrong."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from striate.doctor.checks.eval.metrics.known_inputs import near, numbers_for, right_predictions, wrong_metric
from striate.doctor.checks.eval.metrics.overlap_kinds import (
    PATTERNS,
    actual_kind,
    is_as_named,
    mislabeled_overlap,
    shares_of,
)
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.syntax import is_constant, is_operation, nodes_in
from striate.records import Finding
from striate.wording import listed


def wrong_for_targets(
    evidence: Evidence, name: str, line: int, function: Callable[..., Any], *, perfect: float
) -> Finding | None:
    """The finding for a metric that is not `perfect` where predictions equal their targets. They have the shapes of the
    outputs and targets of validation, in either order of arguments."""
    forms = [form for one, other in right_predictions(evidence) for form in ((one, other), (other, one))]
    results = [(numbers, form) for form in forms if (numbers := numbers_for(function, *form))]
    values = [value for numbers, _ in results for value in numbers]
    if not values or any(near(value, perfect) or (perfect and value > 1) for value in values):  # counts, above 1
        return None
    numbers, form = results[0]
    text = listed([f"{value:.4g}" for value in numbers[:4]])
    shapes = " and ".join(str(tuple(part.shape)) for part in form)
    return wrong_metric(
        line,
        f"{name} gives {text} for predictions that equal their targets, of shapes {shapes}",
        "A perfect network would not get a perfect score: shapes are broadcast, sums run over the wrong axes, or a "
        "union counts the intersection twice.",
        "give both the same shape, `predictions.reshape(targets.shape)`, sum over the positions of each class, and "
        "subtract the intersection from the union: `rows + columns - both`",
        "a function for an error that is not 0, or for a score that is not 1, when predictions equal their targets",
    )


def overlap_finding(
    evidence: Evidence, name: str, text: str, line: int, function: Callable[..., Any]
) -> Finding | None:
    """The finding for a score named as an overlap that equals another metric where a known part of the predictions is
    wrong, in any form that outputs and targets have."""
    kinds, value = list[set[tuple[str, str]]](), 0.0
    for wrong in PATTERNS:
        forms = list(right_predictions(evidence, wrong))
        if not forms:
            return None
        of_classes = len(forms) > 2
        predicted, targets = (part.long() for part in forms[3 if of_classes else 0])
        classes = int(targets.max()) + 1 if of_classes else 2
        known = shares_of([(predicted.reshape(targets.shape), targets)], classes)
        numbers = [numbers_for(function, *pair) for one, other in forms for pair in ((one, other), (other, one))]
        means = [sum(each) / len(each) for each in numbers if len(each) in (1, classes)]
        others = {mean: other for mean in means if (other := actual_kind(name, mean, known)) is not None}
        if not others or any(is_as_named(name, mean, known) for mean in means):
            return None
        value = next(iter(others))
        kinds.append(set(others.values()))
    known_as = sorted(kinds[0].intersection(*kinds))
    if not known_as:
        return None
    # Recall and precision are both listed where it is unknown which argument holds the labels.
    meant, kind = known_as[0][0], " or ".join(kind for _, kind in known_as)
    return mislabeled_overlap(line, f"{text} gives {value:.4g}", meant, kind)


def taken_from_one(function: ast.FunctionDef) -> bool:
    """Whether a function returns `1 - score`, which is a loss whatever its name."""
    returned = [node.value for node in nodes_in(function, ast.Return)]
    return all(is_operation(value, ast.Sub) and is_constant(value.left, 1) for value in returned)
