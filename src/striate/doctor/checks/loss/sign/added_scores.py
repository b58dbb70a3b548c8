"""Scores that a loss adds instead of subtracting them, such as `bce + dice` for `bce + 1 - dice`."""

from __future__ import annotations

import ast
import re

from striate.doctor.setup.script_source import Function, ScriptSource
from striate.doctor.setup.syntax import called, is_constant, is_operation

_SCORES = frozenset(("dice", "iou", "jaccard", "tversky", "ssim", "f1", "accuracy"))


def score_added(source: ScriptSource) -> tuple[int, str] | None:
    """The line and the text of a loss to which a score of the script is added; None where there is none.

    A score grows with better predictions, according to its name and because nothing subtracts it from 1.
    """
    for node in source.nodes():
        functions = source.functions_of(node) if isinstance(node, ast.Call) else []
        if not isinstance(node, ast.Call) or len(functions) != 1 or not _is_score(functions[0]):
            continue
        statement = source.parent(node)
        if isinstance(statement, ast.AugAssign) and isinstance(statement.op, ast.Add) and _is_loss(source, node):
            return statement.lineno, ast.unparse(statement)
        whole = _sum_around(source, node)
        if whole is not None and _is_loss(source, whole):
            return whole.lineno, ast.unparse(whole)
    return None


def _is_score(function: Function) -> bool:
    words, inside = _words(function.name), list(ast.walk(function))
    if "loss" in words:
        returned = [_averaged(node.value) for node in inside if isinstance(node, ast.Return) and node.value is not None]
        if returned and all(isinstance(value, ast.Name) and _names_score(value.id) for value in returned):
            words = set(_SCORES)  # `dice_loss` that ends with `return dice`
        else:
            return bool(returned) and all(_names_score(called(value)) for value in returned)
    if not words & _SCORES:
        return False
    negated = any(isinstance(part, ast.UnaryOp) and isinstance(part.op, ast.USub) for part in inside)
    from_one = any(is_operation(part, ast.Sub) and is_constant(part.left, 1) for part in inside)
    return not negated and not from_one and not any("loss" in called(part).lower() for part in inside)


def _averaged(value: ast.expr) -> ast.expr:
    """The argument of a mean or a sum: `dice(p, y)` of `dice(p, y).mean()`; any other value unchanged."""
    while called(value) in ("mean", "sum") and isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        value = value.func.value
    return value


def _names_score(name: str) -> bool:
    return bool(_words(name) & _SCORES) and "loss" not in _words(name)


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", name.lower()))


def _sum_around(source: ScriptSource, node: ast.Call) -> ast.expr | None:
    """The full expression around a call, where the call is added to something and nothing changes its sign."""
    inner: ast.expr = node
    added = False
    for part in source.enclosing(node):
        if isinstance(part, ast.BinOp):
            if isinstance(part.op, ast.Sub | ast.Div) and part.right is inner:
                return None
            if isinstance(part.op, ast.Mult) and any(isinstance(side, ast.UnaryOp) for side in (part.left, part.right)):
                return None
            added |= isinstance(part.op, ast.Add) or (isinstance(part.op, ast.Sub) and part.left is inner)
        elif isinstance(part, ast.UnaryOp) or (isinstance(part, ast.Call) and inner is not part.func):
            return None
        elif not isinstance(part, ast.expr) or isinstance(part, ast.Tuple):
            break
        inner = part
    return inner if added else None


def _is_loss(source: ScriptSource, value: ast.expr) -> bool:
    """Whether a value is assigned to a name with "loss", or returned by a function or class named for a loss."""
    statement = source.parent(value)
    if isinstance(statement, ast.AugAssign):
        return "loss" in ast.unparse(statement.target).lower()
    if isinstance(statement, ast.Assign):
        return any("loss" in ast.unparse(target).lower() for target in statement.targets)
    if not isinstance(statement, ast.Return):
        return False
    around = [part.name for part in source.enclosing(value) if isinstance(part, ast.ClassDef | ast.FunctionDef)]
    return any("loss" in name.lower() or "criterion" in name.lower() for name in around)
