"""Metrics that a script computes itself, asked for what is known beforehand."""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import permutations, product
from typing import Any

import numpy as np
import torch

from striate.doctor.checks.eval.detection_functions import overlap_of_boxes_apart, precision_of_best_ranking
from striate.doctor.checks.eval.evaluated import meddles, numbers_of, words_of
from striate.doctor.checks.eval.neighbor_functions import (
    CLUSTERS,
    NO_SCORES,
    SIZES,
    precision_of_clusters,
    precisions_of,
)
from striate.doctor.checks.eval.other_shares import PATTERNS, another, is_meant, no_overlap, partly_wrong, shares_of
from striate.doctor.checks.eval.top_few import untrue_for_several
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import main_tensor, parts
from striate.doctor.setup.reached_objects import reached_values
from striate.doctor.setup.script_source import ScriptSource
from striate.models.preserved_state import same_random_state
from striate.records import Finding
from striate.wording import listed, several

_FEW, _CLASSES, _ROUNDED = 7, 10, 1e-3
_ERRORS = frozenset(["mae", "rmse", "mse", "mape", "smape"])
_SCORES = frozenset(["r2", "iou", "miou", "iu", "dice", "jaccard"])
_ADDS = ("update", "add", "add_batch", "accumulate", "__call__")
_SURE, _IGNORED = 20.0, -100
_MOST = 256
_LOWER = 0.1
_FEWEST_CLASSES = 4
"""Of three, where all are wrong, each comparison by itself finds a third right."""


def untrue_metrics(evidence: Evidence) -> Iterator[Finding]:
    """Functions of the script whose metric is wrong, of those that can be asked."""
    for node, function in _functions(evidence.source):
        name, line = node.name, node.lineno
        words, found = words_of(name), None
        if "acc" in name.lower() and "top" not in name.lower():
            found = _untrue_accuracy(name, line, function, padded=_knows_padding(evidence.source, node))
            if found is None and _is_used(evidence.source, name, function):
                found = _right_zeros(evidence, name, line, function)
        elif words & (_ERRORS | _SCORES) and "loss" not in words:
            error = bool(words & _ERRORS) or ("r2" not in words and _taken_from_one(node))
            found = _untrue_of_right(evidence, f"`{name}`", line, function, perfect=0.0 if error else 1.0)
            if found is None and not error:
                found = _other_share(evidence, name, f"`{name}`", line, function)
        if found is not None:
            yield found
    for node, function in _functions(evidence.source, 3):
        name, words = node.name.lower(), words_of(node.name)
        if words & NO_SCORES:
            continue
        if "concordance" in name or "cindex" in name or {"c", "index"} <= words:
            yield from _untrue_concordance(node, function)
    for needed in (2, 3):
        for node, function in _functions(evidence.source, needed):
            if evidence.source.calls(node.name):
                yield from _untrue_of_detections(node, function)
            yield from _untrue_of_top_few(evidence.source, node, function)
    for node, function in _functions(evidence.source):
        yield from _untrue_precision(node, function)
    for said, line, function in _objects(evidence.source):
        found = _untrue_of_right(evidence, said, line, function, perfect=1.0)
        found = found or _other_share(evidence, said.split("` of")[0], said, line, function)
        if found is not None:
            yield found
    yield from _recalls_and_precisions(evidence)


def _objects(source: ScriptSource) -> Iterator[tuple[str, int, Callable[..., Any]]]:
    """Scores that objects of the script's give of all that they were given, as of a confusion matrix: how it is
    called, the line, and a function of predictions and targets that asks a new object."""
    for owner, make, add, methods in _made(source):
        for method in methods:
            for name, key in _scores_of(method):
                said = f"`{name}` of `{owner.name}.{method.name}`"
                yield said, method.lineno, _asking(make, add.name, method.name, key)


def _made(
    source: ScriptSource,
) -> Iterator[tuple[ast.ClassDef, Callable[[], Any], ast.FunctionDef, list[ast.FunctionDef]]]:
    """Classes of the script's that are given predictions and targets: what makes an object, the method that is given
    them, and the methods that need nothing."""
    for owner in source.nodes(ast.ClassDef):
        written = [part for part in owner.body if isinstance(part, ast.FunctionDef)]
        methods = [method for method in written if not meddles(source, method)]
        adds = [method for method in methods if method.name in _ADDS and _needed(method) == 3]
        opens = any(method.name == "__init__" and method not in methods for method in written)
        make = _maker(source, owner) if adds and not opens else None
        if make is not None:
            yield owner, make, adds[0], [method for method in methods if _needed(method) == 1]


def _recalls_and_precisions(evidence: Evidence) -> Iterator[Finding]:
    """Recalls that are precisions, or the reverse, of objects of the script's that are given predictions and labels
    whose order their parameters name."""
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
    for owner, make, add, methods in _made(evidence.source):
        labels_first = _labels_first(evidence.source, add)
        given = (labels, predicted) if labels_first else (predicted, labels)
        for method in methods if labels_first is not None else ():
            for name, key in _named_for(method, frozenset(true)):
                (said,) = words_of(name) & true.keys()
                (other,) = true.keys() - {said}
                numbers = _asked(_asking(make, add.name, method.name, key), *given)
                if _are(numbers, true[other]) and not _are(numbers, true[said]):
                    yield _finding(
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
    """Whether numbers are those of the classes, or their mean, as shares or in percent."""
    told = torch.tensor(numbers, dtype=torch.float64)
    known = known if len(numbers) > 1 else known.mean().reshape(1)
    return told.shape == known.shape and any(
        torch.allclose(told, scale * known, rtol=0, atol=scale * _ROUNDED) for scale in (1.0, 100.0)
    )


def _labels_first(source: ScriptSource, add: ast.FunctionDef) -> bool | None:
    """Whether a method is given labels before predictions, as its parameters are named; None where these do not say it,
    or a call has them the other way round."""
    order = _order(*(parameter.arg for parameter in add.args.args[1:3]))
    calls = [site.node.args for site in source.calls(add.name) if len(site.node.args) == 2]
    said = {_order(*map(ast.unparse, given)) for given in calls}
    return None if order is None or (not order) in said else order


def _order(one: str, other: str) -> bool | None:
    first, second = ((bool(_PREDICTED.search(name)), bool(_TRUE.search(name))) for name in (one, other))
    return {((True, False), (False, True)): False, ((False, True), (True, False)): True}.get((first, second))


_PREDICTED = re.compile("pred|output|logit|argmax|hyp", re.IGNORECASE)
_TRUE = re.compile(r"target|label|true|truth|gold|\by\b", re.IGNORECASE)
_MOST_CLASSES, _OF_EACH = 1000, 4


def _named_for(method: ast.FunctionDef, words: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """What a method returns by a name with one of these words alone, with its key where it has one."""
    returned = [node.value for node in ast.walk(method) if isinstance(node, ast.Return)]
    names: list[tuple[str, Any]] = [(method.name, None)]
    if len(returned) == 1 and isinstance(returned[0], ast.Dict):
        names = [(str(key.value), key.value) for key in returned[0].keys if isinstance(key, ast.Constant)]
    yield from ((name, key) for name, key in names if len(words_of(name) & words) == 1)


def _maker(source: ScriptSource, owner: ast.ClassDef) -> Callable[[], Any] | None:
    """What makes an object of a class as the script does it; None where what that takes is not known."""
    for site in source.calls(owner.name):
        kind, given = source.value(site.node.func), [source.value(part) for part in site.node.args]
        named = {word.arg or "": source.value(word.value) for word in site.node.keywords}
        if isinstance(kind, type) and "" not in named and not any(v is None for v in (*given, *named.values())):
            return partial(kind, *given, **named)
    return None


def _scores_of(method: ast.FunctionDef) -> Iterator[tuple[str, Any]]:
    """The scores among what a method returns, as they are called, each with its place or its key where it has one."""
    returned = [node.value for node in ast.walk(method) if isinstance(node, ast.Return) and node.value is not None]
    value, parts = returned[0] if len(returned) == 1 else None, list[tuple[str, Any]]()
    if isinstance(value, ast.Tuple):
        parts = [(ast.unparse(part), place) for place, part in enumerate(value.elts)]
    elif isinstance(value, ast.Dict):
        parts = [(str(key.value), key.value) for key in value.keys if isinstance(key, ast.Constant)]
    elif value is not None and not _taken_from_one(method):
        parts = [(f"{method.name}: {ast.unparse(value)}", None)]
    yield from ((name, key) for name, key in parts if words_of(name) & _SCORES and not words_of(name) & NO_SCORES)


def _asking(make: Callable[[], Any], add: str, method: str, key: Any) -> Callable[[Any, Any], list[float]]:
    def asked(predictions: Any, targets: Any) -> list[float]:
        thing = make()
        getattr(thing, add)(predictions, targets)
        given = getattr(thing, method)
        given = given() if callable(given) else given  # or it is a property
        numbers: list[float] = torch.as_tensor(given if key is None else given[key]).double().flatten().tolist()
        return numbers

    return asked


def _is_used(source: ScriptSource, name: str, function: Callable[..., Any]) -> bool:
    """Whether something calls the function by its name, or an object of the user's keeps it."""
    kept = (vars(value) for value in reached_values(source.names) if type(value).__module__ == "__main__")
    return bool(source.calls(name)) or any(value is function for held in kept for value in reached_values(held, 1))


def _taken_from_one(function: ast.FunctionDef) -> bool:
    """Whether it returns `1 - score`, which is a loss whatever its name."""
    returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
    return all(
        isinstance(value, ast.BinOp)
        and isinstance(value.op, ast.Sub)
        and isinstance(value.left, ast.Constant)
        and value.left.value == 1
        for value in returned
    )


def _functions(source: ScriptSource, needed: int = 2) -> Iterator[tuple[ast.FunctionDef, Callable[..., Any]]]:
    """Functions of two things, predictions and targets, or of another number, that change nothing."""
    for tree in source.trees.values():
        for node in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            function = source.names.get(node.name)
            if _needed(node) == needed and callable(function) and not meddles(source, node) and not _picks(node):
                yield node, function


def _needed(node: ast.FunctionDef) -> int:
    return len(node.args.args) - len(node.args.defaults)


def _picks(node: ast.FunctionDef) -> bool:
    """Whether its second parameter says which rows are looked at, as `labels[index]`, and is no targets."""
    name = node.args.args[1].arg if len(node.args.args) > 1 else ""
    places = (part.slice for part in ast.walk(node) if isinstance(part, ast.Subscript))
    return any(isinstance(place, ast.Name) and place.id == name for place in places)


def _asked(function: Callable[..., Any], *given: Any, **named: Any) -> tuple[float, ...]:
    """The numbers that it gives; none where it is for something else."""
    try:
        with same_random_state(), torch.no_grad():
            told = tuple(numbers_of(function(*given, **named)))
        return () if any(math.isnan(number) for number in told) else told  # as of boxes that have no area
    except Exception:  # of the user's, which was given what it is not for
        return ()


def _knows_padding(source: ScriptSource, function: ast.FunctionDef) -> bool:
    """Whether a function leaves out labels that stand for none, by their number or its name."""
    parts = (part for part in ast.walk(function) if isinstance(part, ast.UnaryOp | ast.Name))
    return any(source.is_number(part, _IGNORED) for part in parts)


def _untrue_accuracy(name: str, line: int, function: Callable[..., Any], *, padded: bool) -> Finding | None:
    few = torch.arange(_FEW)
    moved = _asked(function, 10 * torch.eye(_CLASSES)[few.roll(-1)], few)
    if any(abs(value - scale) < _ROUNDED * scale for value in moved for scale in (1, 100)):
        return None  # of next tokens: it shifts them itself
    if _finds_neighbors(function):
        return None
    for targets, predicted, why in _known_accuracies(padded):
        given = _asked(function, 10 * torch.eye(_CLASSES)[predicted], targets)
        right, counted = int((predicted == targets).sum()), int((targets != _IGNORED).sum())
        shares = (right / counted, 100 * right / counted, right)
        if not given:
            return None
        if any(abs(value - share) < _ROUNDED * share for value in given for share in shares):
            continue
        said = listed([f"{value:.4g}" for value in given])
        return _finding(
            line,
            f"`{name}` gives {said} for {several(counted, 'sample')}, {right} of which are right"
            + f", and {len(targets) - counted} without a label" * (counted < len(targets)),
            why,
            "compare classes and labels of the same shape, `(logits.argmax(-1) == labels).sum()`, and divide by the "
            "number of labels: `len(labels)`, not the usual batch size",
            "a function for an accuracy that does not give the share of right predictions",
        )
    return None


def _finds_neighbors(function: Callable[..., Any]) -> bool:
    """Whether it compares rows with each other, as of embeddings: what their columns are in order does not matter."""
    labels = torch.arange(_FEW) // 2
    rows = 10 * torch.eye(_CLASSES)[labels]
    told = [_asked(function, rows[:, torch.arange(_CLASSES).roll(by)], labels) for by in (0, 1, 3)]
    return told[0] == told[1] == told[2] and any(0 < value < 1 for value in told[0])


def _right_zeros(evidence: Evidence, name: str, line: int, function: Callable[..., Any]) -> Finding | None:
    """An accuracy of labels that are one in a row of zeros, where each zero that is predicted counts."""
    wanted = next((main_tensor(parts(batch)[1]) for batch in evidence.val.raw), None)
    if wanted is None or wanted.ndim != 2 or wanted.shape[1] < _FEWEST_CLASSES or not _is_one_hot(wanted):
        return None
    wrong = wanted.roll(1, 1).float()
    with same_random_state(), suppress(Exception):  # of the user's, which was given what it is not for
        told = float(torch.as_tensor(function(wanted.clone(), wrong)).float().mean())
        if abs(told - (1 - 2 / wanted.shape[1])) < _ROUNDED:
            return _finding(
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


def _known_accuracies(padded: bool) -> Iterator[tuple[torch.Tensor, torch.Tensor, str]]:
    """Labels and predicted classes, and what it means that an accuracy of these is wrong: few that are all right,
    three of each class, one of them right, and few with others that are not to be counted."""
    few, classes = torch.arange(_FEW), torch.arange(_CLASSES)
    yield few, few, "It divides by a number other than that of the samples: a short last batch counts as wrong."
    predicted = torch.cat([classes, classes.roll(1), classes.roll(2)])
    yield classes.repeat(3), predicted, "It counts something other than the largest output as right."
    if padded:
        why = "It leaves padding out of the count of right predictions, but divides by all positions."
        yield torch.cat([few, torch.full_like(few, _IGNORED)]), few.repeat(2), why


def _untrue_of_right(
    evidence: Evidence, name: str, line: int, function: Callable[..., Any], *, perfect: float
) -> Finding | None:
    """A metric of predictions that are their targets, in the shapes that outputs and targets of validation have, in
    either order."""
    forms = [form for one, other in _right_predictions(evidence) for form in ((one, other), (other, one))]
    answers = [(given, form) for form in forms if (given := _asked(function, *form))]
    values = [value for given, _ in answers for value in given]
    if not values or any(_near(value, perfect) or (perfect and value > 1) for value in values):  # counts, above 1
        return None
    numbers, form = answers[0]
    said = listed([f"{value:.4g}" for value in numbers[:4]])
    shapes = " and ".join(str(tuple(part.shape)) for part in form)
    return _finding(
        line,
        f"{name} gives {said} for predictions that equal their targets, of shapes {shapes}",
        "A perfect network would not get a perfect score: shapes are broadcast, sums run over the wrong axes, or a "
        "union counts the intersection twice.",
        "give both the same shape, `predictions.reshape(targets.shape)`, sum over the positions of each class, and "
        "subtract the intersection from the union: `rows + columns - both`",
        "a function for an error that is not 0, or for a score that is not 1, when predictions equal their targets",
    )


def _untrue_concordance(node: ast.FunctionDef, function: Callable[..., Any]) -> Iterator[Finding]:
    """A concordance index of three things, risks, durations and events in any order, where no one is censored and each
    risk is right: 1 by any definition, of risks or of predicted durations."""
    times, events = np.arange(1.0, 1 + _FEW), np.ones(_FEW)
    values = list[float]()
    for risks, seen in product((-times, times), (events, events.astype(bool))):
        for form in permutations((risks, times, seen)):
            with np.errstate(all="ignore"):
                values += _asked(function, *form) or _asked(function, *map(torch.from_numpy, form))
    if not values or any(_near(value, 1.0) or value > 1 for value in values):  # counts, above 1
        return
    yield _finding(
        node.lineno,
        f"`{node.name}` gives {max(values):.4g} at most for {_FEW} uncensored samples whose risks are in the order "
        "of their durations, ascending or descending",
        "A perfect network would not get a perfect score: the divisor is not the number of comparable pairs.",
        "divide by the number of pairs whose order is known: `(higher * earlier).sum() / earlier.sum()`",
        "a function for a concordance index that is not 1 for risks in the right order",
    )


def _untrue_of_detections(node: ast.FunctionDef, function: Callable[..., Any]) -> Iterator[Finding]:
    """An overlap of boxes that do not overlap, or an average precision that ranks the lowest score first."""

    def ask(*given: Any) -> tuple[float, ...]:
        with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
            return _asked(function, *given)

    parameters = [part.arg for part in node.args.args[: _needed(node)]]
    apart = overlap_of_boxes_apart(node.name, ask) if len(parameters) == 2 else None
    if apart is not None:
        yield _finding(
            node.lineno,
            f"`{node.name}` gives {apart:.4g} for two boxes that are apart in both directions, and the right overlap "
            "for boxes that overlap",
            "Both lengths of their intersection are negative, and their product is positive: boxes that do not touch "
            "are matched, or suppress each other.",
            "limit each length before they are multiplied: `(low - high).clamp(min=0).prod(-1)`",
            "a function for an overlap that is above 0 for boxes that do not overlap",
        )
    best = precision_of_best_ranking(node.name, parameters, ask)
    if best is not None:
        yield _finding(
            node.lineno,
            f"`{node.name}` gives {best:.4g} for {_FEW} detections if the right ones have the highest scores, and 1 if "
            "they have the lowest",
            "Detections are ranked from the lowest score up: a network that is sure of its right detections gets a low "
            "score.",
            "rank them by descending score: `np.argsort(-scores)`, `scores.argsort(descending=True)`",
            "a function for an average precision that is 1 for right detections with the lowest scores, and not for "
            "such with the highest",
        )


def _untrue_of_top_few(source: ScriptSource, node: ast.FunctionDef, function: Callable[..., Any]) -> Iterator[Finding]:
    found = untrue_for_several(source, node, partial(_asked, function))
    if found is None:
        return
    numbers, told, right = found
    said, true, asked = (listed([f"{value:.4g}" for value in values]) for values in (told, right, numbers))
    yield _finding(
        node.lineno,
        f"`{node.name}` gives {said} for known scores if it is asked for the highest {asked} at once; asked for each "
        f"by itself it gives {true}, which is right",
        "A label among the highest scores of the largest number counts for a smaller one as well: the accuracy of the "
        "first prediction is that of several.",
        "count hits among the first `k` alone, for each `k`: `correct[:k].reshape(-1).float().sum()`",
        "a function for accuracies of the highest few scores that gives others for several numbers at once than for "
        "each by itself",
    )


def _untrue_precision(node: ast.FunctionDef, function: Callable[..., Any]) -> Iterator[Finding]:
    """Average precisions of a search among embeddings that lie in one cluster for each class: 1 by any definition."""
    for name, key in precisions_of(node):
        found = [precision_of_clusters(function, key, size) for size in SIZES]
        values = [value for value in found if value is not None]
        if len(values) < len(SIZES) or any(_near(value, 1.0) or not 0 < value < 1 for value in values):
            continue
        mixed = precision_of_clusters(function, key, SIZES[1], mixed=True)
        if mixed is None or mixed > (1 - _LOWER) * values[1]:
            continue  # no score of how near those of a class lie
        yield _finding(
            node.lineno,
            f"`{node.name}` gives {values[1]:.4g} as `{name}` for {CLUSTERS * SIZES[1]} embeddings in {CLUSTERS} "
            "clusters far apart, one for each class",
            "A perfect network would not get a perfect score: precisions are divided by a number other than the rank, "
            "or their sum by another than that of the relevant samples.",
            "divide the hits so far by the rank, and the sum by the number of relevant samples: "
            "`(hits.cumsum(0) / torch.arange(1, len(hits) + 1) * hits).sum() / hits.sum()`",
            "an average precision of neighbors that is not 1 where all neighbors are of the same class, however many",
        )
        return


def _near(value: float, perfect: float) -> bool:
    return abs(value - perfect) < 0.02 or (perfect == 1 and abs(value - 100) < 2)


def _right_predictions(evidence: Evidence, wrong: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What a perfect network would give for the first samples of validation, in several forms, with their targets; or
    one that predicts the next class for one of so many, where targets are classes."""
    try:
        known = evidence.after_val
    except NoEvidence:
        return
    outputs, targets = known.outputs[:_MOST].detach().cpu(), known.targets
    if targets is None:
        return
    targets = targets[:_MOST].detach().cpu()
    if outputs.numel() == targets.numel():
        binary = bool(((targets == 0) | (targets == 1)).all())
        if wrong and not binary:
            return
        told = (partly_wrong(targets.long(), 2, wrong) if wrong else targets).reshape(outputs.shape).to(outputs.dtype)
        yield told, targets
        if binary:
            yield _SURE * (2 * told - 1), targets
    elif (
        outputs.ndim == targets.ndim + 1
        and not targets.is_floating_point()
        and torch.equal(targets.unique().long(), torch.arange(outputs.shape[1]))
    ):  # the score of a class that is not there may be 0
        told = partly_wrong(targets.long(), outputs.shape[1], wrong) if wrong else targets
        ones = torch.nn.functional.one_hot(told.long(), outputs.shape[1]).movedim(-1, 1).float()
        one_hot = torch.nn.functional.one_hot(targets.long(), outputs.shape[1]).movedim(-1, 1).float()
        yield _SURE * (2 * ones - 1), targets
        yield ones, targets
        yield ones, one_hot
        yield told, targets
        yield told.flatten(), targets.flatten()


def _other_share(evidence: Evidence, name: str, said: str, line: int, function: Callable[..., Any]) -> Finding | None:
    """A score by the name of an overlap that is another share of predictions of which a known part is wrong, in any
    form that outputs and targets have."""
    kinds, value = list[set[tuple[str, str]]](), 0.0
    for wrong in PATTERNS:
        forms = list(_right_predictions(evidence, wrong))
        if not forms:
            return None
        of_classes = len(forms) > 2
        told, targets = (part.long() for part in forms[3 if of_classes else 0])
        classes = int(targets.max()) + 1 if of_classes else 2
        known = shares_of([(told.reshape(targets.shape), targets)], classes)
        numbers = [_asked(function, *pair) for one, other in forms for pair in ((one, other), (other, one))]
        means = [sum(each) / len(each) for each in numbers if len(each) in (1, classes)]
        others = {mean: other for mean in means if (other := another(name, mean, known)) is not None}
        if not others or any(is_meant(name, mean, known) for mean in means):
            return None
        value = next(iter(others))
        kinds.append(set(others.values()))
    known_as = sorted(kinds[0].intersection(*kinds))
    if not known_as:
        return None
    meant, kind = known_as[0][0], " or ".join(kind for _, kind in known_as)  # which of both are the labels is unknown
    return no_overlap(line, f"{said} gives {value:.4g}", meant, kind)


def _finding(line: int, measured: str, why: str, remedy: str, limit: str) -> Finding:
    return Finding(
        code="eval.wrong-count",
        severity="error",
        where=f"line {line}",
        measured=measured,
        threshold=limit,
        why=why,
        remedy=remedy,
    )
