"""Metric functions of the script, called with known inputs."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from striate.doctor.checks.eval.counts.findings import wrong_count
from striate.doctor.checks.eval.metrics.overlap_kinds import partly_wrong
from striate.doctor.checks.eval.script_evaluation import has_side_effects, numbers_of
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import is_binary
from striate.doctor.setup.reached_objects import reached_values
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import nodes_in
from striate.models.preserved_state import same_random_state
from striate.records import Finding

FEW, CLASSES, ROUNDED = 7, 10, 1e-3
"""Samples, classes, and the tolerance of results."""
NO_SCORES = frozenset(["loss", "std", "var", "soft", "smooth"])
"""Words in the names of functions that are not scores, whatever their other words."""
_SURE, _MOST = 20.0, 256
_MOST_IN_A_ROW = 4096
"""A metric may loop over positions, too."""


def functions_of(source: ScriptSource, needed: int = 2) -> Iterator[tuple[ast.FunctionDef, Callable[..., Any]]]:
    """The script's functions without side effects and with `needed` required arguments, predictions and targets among
    them: the definition, and the function."""
    for tree in source.trees.values():
        for node in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
            function = source.names.get(node.name)
            if (
                needed_by(node) == needed
                and callable(function)
                and not has_side_effects(source, node)
                and not picks_rows(node)
            ):
                yield node, function


def needed_by(node: ast.FunctionDef) -> int:
    """Number of required arguments."""
    return len(node.args.args) - len(node.args.defaults)


def picks_rows(node: ast.FunctionDef) -> bool:
    """Whether a function's second parameter is an index of rows, as in `labels[index]`, not targets."""
    name = node.args.args[1].arg if len(node.args.args) > 1 else ""
    places = (part.slice for part in nodes_in(node, ast.Subscript))
    return any(isinstance(place, ast.Name) and place.id == name for place in places)


def numbers_for(function: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[float, ...]:
    """The numbers that a function returns; none where it raises, or one is NaN."""
    try:
        with same_random_state(), torch.no_grad():
            numbers = tuple(numbers_of(function(*args, **kwargs)))
        return () if any(math.isnan(number) for number in numbers) else numbers  # as for boxes without area
    except Exception:  # the user's function, which may not take these inputs
        return ()


def is_used(source: ScriptSource, name: str, function: Callable[..., Any]) -> bool:
    """Whether the script calls a function by its name, or an object of the user's holds it."""
    objects = (vars(value) for value in reached_values(source.names) if type(value).__module__ == "__main__")
    return bool(source.calls(name)) or any(value is function for held in objects for value in reached_values(held, 1))


def right_predictions(evidence: Evidence, wrong: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The outputs of a perfect network for the first samples of validation, in several forms, with their targets. With
    `wrong` and targets that are classes: of a network that predicts the next class for one in `wrong` samples."""
    try:
        known = evidence.after_val
    except NoEvidence:
        return
    outputs, targets = known.outputs[:_MOST].detach().cpu(), known.targets
    if targets is None:
        return
    targets = targets[:_MOST].detach().cpu()
    if outputs.numel() == targets.numel():
        binary = is_binary(targets)
        if wrong and not binary:
            return
        predicted = (partly_wrong(targets.long(), 2, wrong) if wrong else targets).reshape(outputs.shape)
        predicted = predicted.to(outputs.dtype)
        yield predicted, targets
        if binary:
            yield _SURE * (2 * predicted - 1), targets
    elif (
        outputs.ndim == targets.ndim + 1
        and not targets.is_floating_point()
        and torch.equal(targets.unique().long(), torch.arange(outputs.shape[1]))
    ):  # the score of an absent class may be 0
        predicted = partly_wrong(targets.long(), outputs.shape[1], wrong) if wrong else targets
        ones = torch.nn.functional.one_hot(predicted.long(), outputs.shape[1]).movedim(-1, 1).float()
        one_hot = torch.nn.functional.one_hot(targets.long(), outputs.shape[1]).movedim(-1, 1).float()
        yield _SURE * (2 * ones - 1), targets
        yield ones, targets
        yield ones, one_hot
        yield predicted, targets
        flat, step = targets.flatten(), -(-targets.numel() // _MOST_IN_A_ROW)
        if len(flat[::step].unique()) == outputs.shape[1]:
            yield predicted.flatten()[::step], flat[::step]


def near(value: float, perfect: float) -> bool:
    return abs(value - perfect) < 0.02 or (perfect == 1 and abs(value - 100) < 2)


def wrong_metric(line: int, measured: str, why: str, remedy: str, limit: str) -> Finding:
    """The finding for a wrong metric function that is defined in a line."""
    return wrong_count(f"line {line}", measured, why, remedy, limit)
