"""Later trainings of a script: data that are used only with their networks do not belong to the present training."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from striate.doctor.script.loop_syntax import syntax_of
from striate.doctor.setup.syntax import called, is_operation, names_in, nodes_in, stored_in

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def is_of_later_training(data: Any, frames: list[Any], batches: Any) -> bool:
    """Whether the running functions use a loader, or a data set, only together with a network that is made later, and
    trained on other data than these `batches`, or only after they have trained again, on other data."""
    found = False
    running = {frame.f_code.co_name for frame in frames}
    if _read_after_another_training(data, frames, batches, running):
        return True
    for frame in frames:
        awaiting = [name for name, value in frame.f_locals.items() if value is data]
        scope = _scope_of(frame) if awaiting else ast.Module([], [])
        known = {**frame.f_globals, **frame.f_locals}
        seen = set[str]()
        while awaiting:
            name = awaiting.pop()
            seen.add(name)
            nodes = list(_nodes(scope, name))
            left = {id(node) for node in nodes if _is_read(node, name)}
            later = _networks_made_later(scope, frame.f_lineno, running, _trained_on(known, batches)) if left else {}
            for node in nodes:
                if isinstance(node, ast.Assign) and called(node.value) == "DataLoader" and name in names_in(node.value):
                    awaiting += [t.id for t in node.targets if isinstance(t, ast.Name) and t.id not in seen]
                    left -= {id(part) for part in ast.walk(node.value)}
                given = _given(node) if isinstance(node, ast.Call) else set[str]()
                if not isinstance(node, ast.Call) or name not in given:
                    continue
                given |= {_root(node.func)} & later.keys()  # `model(x)`, not just `evaluate(model, x)`
                behind = {other for other in given if later.get(other, math.inf) <= node.lineno}
                alone = bool(behind) and not any(_is_trained(known.get(other)) for other in given - behind)
                if alone or called(node) == "len":
                    left -= {id(part) for part in ast.walk(node)}
                    found |= alone
            if left:
                return False
    return found


def _read_after_another_training(data: Any, frames: list[Any], batches: Any, running: set[str]) -> bool:
    """Whether a function reads a loader only behind a later call of a function that trains now, with another loader:
    `train(net, old)`, then `train(net, new)` and `evaluate(net, test)`."""
    for frame in frames:
        names = {name for name, value in frame.f_locals.items() if value is data}
        scope = _scope_of(frame) if names else ast.Module([], [])
        calls = [call for call in nodes_in(scope, ast.Call) if called(call) in running]
        if not calls:
            continue
        known, line = {**frame.f_globals, **frame.f_locals}, frame.f_lineno
        current = _trained_on(known, batches)
        around = [loop for loop in nodes_in(scope, ast.For, ast.While) if loop.lineno <= line <= (loop.end_lineno or 0)]
        present = {id(node) for loop in around for node in ast.walk(loop)}
        again = [
            call.lineno
            for call in calls
            if call.lineno > line and id(call) not in present
            if any(isinstance(known.get(name), DataLoader) for name in _given(call) - names - current)
        ]
        reads = [node.lineno for name in names for node in ast.walk(scope) if _is_read(node, name)]  # type: ignore[attr-defined]
        return bool(again and reads) and min(again) <= min(reads)
    return False


def is_beside_later_training_data(name: str, frames: list[Any]) -> bool:
    """Whether test data `x_test` are named like training data `x_train` that only a later call of the running function
    gets: `fit(net, x_old, y_old)`, then `fit(net, x_train, y_train)`."""
    beside = _EVALUATED.sub("train", name)
    for inner, outer in pairwise(frames) if beside != name else ():
        calls = [
            node
            for node in nodes_in(syntax_of(outer.f_code.co_filename), ast.Call)
            if called(node) == inner.f_code.co_name
        ]
        present = [node for node in calls if node.lineno <= outer.f_lineno <= (node.end_lineno or node.lineno)]
        later = [node for node in calls if node.lineno > outer.f_lineno and beside in _given(node)]
        if present and later:
            return not any(beside in _given(node) for node in present)
    return False


def are_renumbered(name: str, frames: list[Any]) -> bool:
    """Whether code reads targets only in comparisons with a number, and with a number subtracted, `y_test[rest] - 5`:
    then they are, as they stand, of no training."""
    subtracted = False
    for frame in frames:
        tree = syntax_of(frame.f_code.co_filename)
        apart = [node for node in ast.walk(tree) if _is_subtraction(node)]
        subtracted |= any(name in names_in(node) for node in apart)
        left = {id(node) for node in ast.walk(tree) if _is_read(node, name)}
        for node in [*apart, *(part for part in nodes_in(tree, ast.Compare) if _is_with_number(part))]:
            left -= {id(part) for part in ast.walk(node)}
        if left:
            return False
    return subtracted


def _is_subtraction(node: ast.AST) -> bool:
    return is_operation(node, ast.Sub) and isinstance(node.right, ast.Constant)


def _is_with_number(node: ast.Compare) -> bool:
    return all(isinstance(part, ast.Constant) for part in node.comparators)


_EVALUATED = re.compile("validation|valid|val|test|dev|eval", re.IGNORECASE)


def _scope_of(frame: Any) -> ast.AST:
    """The function that a frame runs, or else its file."""
    tree = syntax_of(frame.f_code.co_filename)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == frame.f_code.co_name:
            first = min([node.lineno, *(part.lineno for part in node.decorator_list)])
            if first == frame.f_code.co_firstlineno:
                return node
    return tree


def _nodes(scope: ast.AST, name: str | None) -> Iterator[ast.AST]:
    """All nodes in a scope, except in functions with a variable of this name; for None, except in all functions."""
    for node in ast.iter_child_nodes(scope):
        if isinstance(node, _FUNCTIONS) and (name is None or name in _own_names(node)):
            continue
        yield node
        yield from _nodes(node, name)


def _own_names(function: ast.AST) -> set[str]:
    return stored_in(function) | {node.arg for node in nodes_in(function, ast.arg)}


def _is_read(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)


def _given(call: ast.Call) -> set[str]:
    """The variables in a call's arguments."""
    return {name for part in (*call.args, *(word.value for word in call.keywords)) for name in names_in(part)}


def _is_trained(value: Any) -> bool:
    """Whether a value may be the network that is trained now: a module with parameters, unlike a loss."""
    return isinstance(value, nn.Module) and any(True for _ in value.parameters())


def _trained_on(known: dict[str, Any], batches: Any) -> set[str]:
    """The names of the data of the present training."""
    data = getattr(batches, "dataset", batches)
    return {
        name
        for name, value in known.items()
        if value is batches or value is data or (isinstance(value, DataLoader) and value.dataset is data)
    }


def _networks_made_later(scope: ast.AST, line: int, running: set[str], current: set[str]) -> dict[str, int]:
    """Variables that are assigned a new network after a line, which is then trained on none of the present data, each
    with the line of its assignment."""
    made = dict[str, int]()
    for node in _nodes(scope, None):
        if isinstance(node, ast.Assign) and node.lineno > line:
            stored = {name for target in node.targets for name in stored_in(target)}
            for name in stored - names_in(node.value):  # `net = compiled(net)` is the same one
                made[name] = min(made.get(name, node.lineno), node.lineno)
    return {name: first for name, first in made.items() if _is_trained_apart(scope, name, first, running, current)}


def _is_trained_apart(scope: ast.AST, name: str, first: int, running: set[str], current: set[str]) -> bool:
    """Whether the parameters of a variable are passed to an optimizer, or the variable to a function that trains, and
    no call or loop from its first line on uses it with the present data."""
    trained = False
    for node in ast.walk(scope):
        if not isinstance(node, ast.Call | ast.For | ast.While) or node.lineno < first:
            continue
        if isinstance(node, ast.Call):
            given, does = _given(node), called(node)
            trained |= does in ("parameters", "named_parameters") and _root(node.func) == name
            trained |= name in given and (does in running or does == "fit" or does.endswith("Trainer"))
        else:
            given = names_in(node)
        if name in given and current & given:
            return False
    return trained


def _root(node: ast.expr) -> str:
    """The variable that an expression starts from: `net` of `net.features[1:].parameters`."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
