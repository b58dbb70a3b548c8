"""Metrics of a ranking, such as the area under a curve, that get decisions instead of scores."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from striate.doctor.checks.eval.threshold import innermost, taken_apart, values_of
from striate.doctor.setup.script_source import Function, ScriptSource
from striate.doctor.setup.syntax import argument, called, nodes_in, receiver_of

_SCORES = {
    "roc_auc_score": (1, "y_score"),
    "average_precision_score": (1, "y_score"),
    "roc_curve": (1, "y_score"),
    "precision_recall_curve": (1, "y_score"),
    "binary_auroc": (0, "preds"),
    "multilabel_auroc": (0, "preds"),
    "binary_average_precision": (0, "preds"),
    "multilabel_average_precision": (0, "preds"),
}
"""Metrics of libraries, each with the place and the name of the argument that ranks the samples."""
_SAME = ("astype", "int", "long", "bool", "asarray", "list", "to")
_DEEPEST = 4


def decisions_ranked(source: ScriptSource) -> Iterator[tuple[ast.Call, ast.expr]]:
    """Calls of ranking metrics whose scores are decisions, each with this argument."""
    for site in source.calls(*_SCORES):
        scores = argument(site.node, *_SCORES[called(site.node)])
        if scores is not None and not source.functions_of(site.node) and _decided(source, site.node, scores, _DEEPEST):
            yield site.node, scores


def _decided(source: ScriptSource, node: ast.AST, value: ast.expr, depth: int) -> bool:
    """Whether a value in a node's function is a decision, 0 or 1 or a class index, followed through assignments, calls
    and arguments."""
    value = _bare(value)
    if _decides(value) or not depth:
        return _decides(value)
    if isinstance(value, ast.Name):
        scope = source.scope_of(node)
        made = [_decided(source, node, one, depth - 1) for one in _values_of(scope, value.id)]
        made += [_decided_at(source, call, place, depth) for call, place in taken_apart(scope, value.id)]
        return all(made) if made else _decided_by_callers(source, scope, value.id, depth)
    return isinstance(value, ast.Call) and _decided_at(source, value, None, depth)


def _values_of(scope: ast.AST, name: str) -> list[ast.expr]:
    """The values that are assigned or appended to a name in a function, without an empty list at the start."""
    return [value for value in values_of(scope, name) if not isinstance(value, ast.List) or value.elts]


def _decided_at(source: ScriptSource, call: ast.Call, place: int | None, depth: int) -> bool:
    """Whether a call returns decisions, at `place` if it returns several results: `_, predicted = outputs.max(1)`."""
    if called(call) == "max" and place == 1:
        return True
    functions = source.functions_of(call)
    returned = list(nodes_in(functions, ast.Return))
    values = [part.value for part in returned if part.value is not None]
    if place is not None:
        values = [v.elts[place] for v in values if isinstance(v, ast.Tuple) and place < len(v.elts)]
    return bool(values) and all(_decided(source, value, value, depth - 1) for value in values)


def _decided_by_callers(source: ScriptSource, scope: ast.AST, name: str, depth: int) -> bool:
    if not isinstance(scope, Function):
        return False
    calls = [site.node for site in source.calls_of(scope)]
    arguments = [(call, value) for call in calls for known, value in source.arguments(scope, call) if known == name]
    return bool(calls) and len(arguments) == len(calls) and all(_decided(source, *one, depth - 1) for one in arguments)


def _bare(value: ast.expr) -> ast.expr:
    """The expression within conversions, slices and concatenations."""
    while not _decides(value):
        inner: ast.expr | None = innermost(value)
        if inner is value and isinstance(value, ast.Subscript):
            inner = value.value
        elif inner is value and isinstance(value, ast.Call) and called(value) in _SAME:
            receiver = receiver_of(value)
            inner = value.args[0] if called(value) in ("asarray", "list") and value.args else receiver
        if inner is value or inner is None:
            break
        value = inner
    return value


def _decides(value: ast.expr) -> bool:
    """Whether an expression compares, rounds to integers, or takes the index of the largest value."""
    match value:
        case ast.Compare(_, [ast.Gt() | ast.GtE() | ast.Lt() | ast.LtE()]):
            return True
        case ast.Subscript(ast.Call() as call, ast.Constant(1)):
            return called(call) == "max"
        case ast.Attribute(ast.Call() as call, "indices"):
            return called(call) == "max"
        case ast.Call(ast.Attribute(ast.Name("torch" | "np" | "numpy")), args, []):
            rounded = called(value) in ("round", "rint") and len(args) == 1
            chosen = called(value) == "where" and len(args) == 3 and isinstance(args[0], ast.Compare)
            return rounded or called(value) == "argmax" or chosen
        case ast.Call(ast.Attribute(), [], []):
            return called(value) in ("round", "argmax")
        case ast.Call():
            return called(value) == "argmax"
    return False
