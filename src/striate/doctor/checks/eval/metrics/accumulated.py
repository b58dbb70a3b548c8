"""Objects of the script that add up predictions and targets and give scores of them, as of a confusion matrix."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from striate.doctor.checks.eval.metrics.known_inputs import NO_SCORES, needed_by
from striate.doctor.checks.eval.metrics.perfect_predictions import taken_from_one
from striate.doctor.checks.eval.script_evaluation import has_side_effects, words_of
from striate.doctor.setup.script_source import ScriptSource

SCORES = frozenset(["r2", "iou", "miou", "iu", "dice", "jaccard"])
_ADDS = ("update", "add", "add_batch", "accumulate", "__call__")


def objects_of(source: ScriptSource) -> Iterator[tuple[str, int, Callable[..., Any]]]:
    """Scores that objects of the script's give of all that they were given, as of a confusion matrix: how it is
    called, the line, and a function of predictions and targets that asks a new object."""
    for owner, make, add, methods in makers_of(source):
        for method in methods:
            for name, key in _scores_of(method):
                said = f"`{name}` of `{owner.name}.{method.name}`"
                yield said, method.lineno, metric_after_update(make, add.name, method.name, key)


def makers_of(
    source: ScriptSource,
) -> Iterator[tuple[ast.ClassDef, Callable[[], Any], ast.FunctionDef, list[ast.FunctionDef]]]:
    """Classes of the script's that are given predictions and targets: what makes an object, the method that is given
    them, and the methods that need nothing."""
    for owner in source.nodes(ast.ClassDef):
        written = [part for part in owner.body if isinstance(part, ast.FunctionDef)]
        methods = [method for method in written if not has_side_effects(source, method)]
        adds = [method for method in methods if method.name in _ADDS and needed_by(method) == 3]
        opens = any(method.name == "__init__" and method not in methods for method in written)
        make = _maker(source, owner) if adds and not opens else None
        if make is not None:
            yield owner, make, adds[0], [method for method in methods if needed_by(method) == 1]


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
    elif value is not None and not taken_from_one(method):
        parts = [(f"{method.name}: {ast.unparse(value)}", None)]
    yield from ((name, key) for name, key in parts if words_of(name) & SCORES and not words_of(name) & NO_SCORES)


def metric_after_update(make: Callable[[], Any], add: str, method: str, key: Any) -> Callable[[Any, Any], list[float]]:
    def scores(predictions: Any, targets: Any) -> list[float]:
        thing = make()
        getattr(thing, add)(predictions, targets)
        given = getattr(thing, method)
        given = given() if callable(given) else given  # or it is a property
        numbers: list[float] = torch.as_tensor(given if key is None else given[key]).double().flatten().tolist()
        return numbers

    return scores
