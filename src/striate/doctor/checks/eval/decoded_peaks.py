"""Code that computes rows and columns of peaks from flat indices: `index // width` and `index % width`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Literal

from striate.doctor.setup.script_source import ScriptSource, Site
from striate.doctor.setup.syntax import called

_JOINED = ("stack", "cat", "concatenate", "column_stack", "dstack")
_FOUND = ("argmax", "max", "topk", "nanargmax")


def rows_before_columns(source: ScriptSource) -> Iterator[Site]:
    """Calls that put the row of a peak before its column, in functions that do not reverse the order."""
    for site in source.calls(*_JOINED):
        scope = source.scope_of(site.node)
        parts = site.node.args[0] if site.node.args else None
        if not isinstance(parts, ast.List | ast.Tuple) or len(parts.elts) != 2:
            continue
        nodes = list(ast.walk(scope))
        if not any(called(node) in _FOUND for node in nodes) or any(_reverses(node) for node in nodes):
            continue
        if [_row_or_column(part, scope) for part in parts.elts] == ["row", "column"]:
            yield site


def _reverses(node: ast.AST) -> bool:
    backwards = isinstance(node, ast.Slice) and node.step is not None and ast.unparse(node.step) == "-1"
    return backwards or called(node) in ("flip", "fliplr", "roll")


def _row_or_column(node: ast.expr, scope: ast.AST, depth: int = 4) -> Literal["row", "column", ""]:
    """Whether an expression is the quotient ("row") or the remainder ("column") of an index."""
    for part in ast.walk(node):
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mod):
            return "column"
        if called(part) in ("remainder", "fmod"):
            return "column"
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.FloorDiv):
            return "row"
        if called(part) in ("floor_divide", "div") and ("floor" in ast.unparse(part) or "trunc" in ast.unparse(part)):
            return "row"
    if depth:
        for name in (part.id for part in ast.walk(node) if isinstance(part, ast.Name)):
            for value in _values_of(name, scope):
                if found := _row_or_column(value, scope, depth - 1):
                    return found
    return ""


def _values_of(name: str, scope: ast.AST) -> Iterator[ast.expr]:
    """The values that are assigned to a name in a function."""
    for node in ast.walk(scope):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            if isinstance(target, ast.Name) and target.id == name:
                yield node.value
            elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                for one, value in zip(target.elts, node.value.elts, strict=False):
                    if isinstance(one, ast.Name) and one.id == name:
                        yield value
