"""Errors that are not 0 and overlaps that are not 1 where predictions equal their targets, and overlaps that are
another metric, or count absent classes, where a part of the predictions is wrong."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import torch

from striate.doctor.checks.eval.library_metrics import as_share
from striate.doctor.checks.eval.metrics.known_inputs import near, numbers_for, right_predictions, wrong_metric
from striate.doctor.checks.eval.metrics.overlap_kinds import (
    KINDS,
    PATTERNS,
    actual_kind,
    is_as_named,
    mislabeled_overlap,
    named_kinds,
    ratios,
    shares_of,
)
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import assigned, called, is_constant, is_operation, nodes_in
from striate.records import Finding
from striate.wording import listed, percent

_OF_CLASSES = 3
"""Which of the forms of right predictions are maps of classes."""
_RESHAPING = ("squeeze", "unsqueeze", "reshape", "view", "view_as", "flatten", "ravel")
_SAME, _RAISED = 0.02, 0.1


def wrong_for_targets(
    evidence: Evidence, name: str, line: int, function: Callable[..., Any], *, perfect: float, reshaped: bool = False
) -> Finding | None:
    """The finding for a metric that is not `perfect` where predictions equal their targets. They have the shapes of the
    outputs and targets of validation, in either order of arguments; `reshaped`: or the same shape, since the script
    reshapes them before it calls the function."""
    pairs = list(right_predictions(evidence))
    if reshaped:
        pairs += [(one.reshape(other.shape), other) for one, other in pairs if one.numel() == other.numel()]
    forms = [form for one, other in pairs for form in ((one, other), (other, one))]
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


def absent_classes_finding(
    evidence: Evidence, name: str, text: str, line: int, function: Callable[..., Any]
) -> Finding | None:
    """The finding for an overlap of maps in which a class that an image neither has nor gets counts as found, where
    everything is predicted as the most frequent class."""
    forms = list(right_predictions(evidence))
    kinds = named_kinds(name) if len(forms) > _OF_CLASSES else []
    targets = forms[_OF_CLASSES][1].long() if kinds else torch.zeros(0)
    if targets.ndim < 3:
        return None
    classes, predicted = (
        int(targets.max()) + 1,
        torch.full_like(targets, int(targets.flatten().mode().values)),
    )
    tables = torch.stack([ratios(one, other, classes) for one, other in zip(predicted, targets, strict=True)])
    for kind in kinds:
        table = tables[:, KINDS.index(kind)]
        honest, inflated = float(table.nanmean()), float(table.nan_to_num(1.0).mean())
        values = [v for pair in ((predicted, targets), (targets, predicted)) for v in numbers_for(function, *pair)]
        found = next((value for value in values if abs(as_share(value) - inflated) < _SAME), None)
        if found is None or inflated - honest < _RAISED or any(is_as_named(name, v, {kind: [honest]}) for v in values):
            continue
        return wrong_metric(
            line,
            f"{text} gives {found:.3g} where every position is predicted as class {int(predicted.flatten()[0])}; over "
            f"the classes that each image has or gets, it is {honest:.3g}",
            f"{percent(float(table.isnan().double().mean()), 0)} of the classes of an image are neither in it nor "
            "predicted for it. Each counts as found, as 0 / 0 with the same constant above and below.",
            "leave out classes whose union is 0, `if union == 0: continue`, or add up intersections and unions over "
            "all images before dividing",
            "a function for an overlap, which counts absent classes as 1 and is above the mean of the others by "
            f"{_RAISED} or more",
        )
    return None


def reshapes_arguments(source: ScriptSource, function: ast.FunctionDef) -> bool:
    """Whether an argument of a call of the function is reshaped, in the call or where the argument is assigned."""
    for site in source.calls_of(function):
        names = {part.id for argument in site.node.args for part in nodes_in(argument, ast.Name)}
        stores = nodes_in(source.scope_of(site.node), ast.Assign)
        values = [value for line in stores for target, value in assigned(line) if ast.unparse(target) in names]
        if any(called(part) in _RESHAPING for part in nodes_in([*site.node.args, *values], ast.Call)):
            return True
    return False


def taken_from_one(function: ast.FunctionDef) -> bool:
    """Whether a function returns `1 - score`, which is a loss whatever its name."""
    returned = [node.value for node in nodes_in(function, ast.Return)]
    return all(is_operation(value, ast.Sub) and is_constant(value.left, 1) for value in returned)
