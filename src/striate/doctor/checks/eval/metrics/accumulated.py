"""Objects of the script that accumulate predictions and targets and compute scores, as by a confusion matrix."""

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
from striate.doctor.setup.syntax import nodes_in

SCORES = frozenset(["r2", "iou", "miou", "iu", "dice", "jaccard"])
_ADDS = ("update", "add", "add_batch", "accumulate", "__call__")


def objects_of(source: ScriptSource) -> Iterator[tuple[str, int, Callable[..., Any]]]:
    """The scores that objects of the script compute from all that they accumulated: the score's name in words, its
    line, and a function that computes it from predictions and targets with a new object."""
    for owner, make, add, methods in makers_of(source):
        for method in methods:
            for name, key in _scores_of(method):
                text = f"`{name}` of `{owner.name}.{method.name}`"
                yield text, method.lineno, metric_after_update(make, add.name, method.name, key)


def makers_of(
    source: ScriptSource,
) -> Iterator[tuple[ast.ClassDef, Callable[[], Any], ast.FunctionDef, list[ast.FunctionDef]]]:
    """The classes of the script that accumulate predictions and targets: the class, a function that creates an object,
    the method that takes predictions and targets, and the methods without required arguments."""
    for owner in source.nodes(ast.ClassDef):
        written = [part for part in owner.body if isinstance(part, ast.FunctionDef)]
        methods = [method for method in written if not has_side_effects(source, method)]
        adds = [method for method in methods if method.name in _ADDS and needed_by(method) == 3]
        opens = any(method.name == "__init__" and method not in methods for method in written)
        make = _maker(source, owner) if adds and not opens else None
        if make is not None:
            yield owner, make, adds[0], [method for method in methods if needed_by(method) == 1]


def _maker(source: ScriptSource, owner: ast.ClassDef) -> Callable[[], Any] | None:
    """A function that creates an object of a class as the script does; None where the arguments are unknown."""
    for site in source.calls(owner.name):
        kind, args = source.value(site.node.func), [source.value(part) for part in site.node.args]
        named = {word.arg or "": source.value(word.value) for word in site.node.keywords}
        if isinstance(kind, type) and "" not in named and not any(v is None for v in (*args, *named.values())):
            return partial(kind, *args, **named)
    return None


def _scores_of(method: ast.FunctionDef) -> Iterator[tuple[str, Any]]:
    """The scores among the results of a method, by name, each with its place or key; None for a single result."""
    returned = [node.value for node in nodes_in(method, ast.Return) if node.value is not None]
    value, parts = returned[0] if len(returned) == 1 else None, list[tuple[str, Any]]()
    if isinstance(value, ast.Tuple):
        parts = [(ast.unparse(part), place) for place, part in enumerate(value.elts)]
    elif isinstance(value, ast.Dict):
        parts = [(str(key.value), key.value) for key in value.keys if isinstance(key, ast.Constant)]
    elif value is not None and not taken_from_one(method):
        parts = [(f"{method.name}: {ast.unparse(value)}", None)]
    yield from ((name, key) for name, key in parts if words_of(name) & SCORES and not words_of(name) & NO_SCORES)


def metric_after_update(make: Callable[[], Any], add: str, method: str, key: Any) -> Callable[[Any, Any], list[float]]:
    """A function of predictions and targets: a new object gets them, and its `method` computes the metric at `key`."""

    def scores(predictions: Any, targets: Any) -> list[float]:
        thing = make()
        getattr(thing, add)(predictions, targets)
        result = getattr(thing, method)
        result = result() if callable(result) else result  # a property is no method
        numbers: list[float] = torch.as_tensor(result if key is None else result[key]).double().flatten().tolist()
        return numbers

    return scores
