"""Code that computes rows and columns of peaks from flat indices: `index // width` and `index % width`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Literal

from striate.doctor.setup.script_source import ScriptSource, Site
from striate.doctor.setup.syntax import assigned, called, is_operation, nodes_in

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
    parts = list(_beside_indices(node))
    for part in parts:
        if is_operation(part, ast.Mod):
            return "column"
        if called(part) in ("remainder", "fmod"):
            return "column"
        if is_operation(part, ast.FloorDiv):
            return "row"
        if called(part) in ("floor_divide", "div") and ("floor" in ast.unparse(part) or "trunc" in ast.unparse(part)):
            return "row"
    if depth:
        names = [part.id for part in parts if isinstance(part, ast.Name)]
        stores = [pair for line in nodes_in(scope, ast.Assign) for pair in assigned(line)]
        values = (value for name in names for target, value in stores if ast.unparse(target) == name)
        return next(filter(None, (_row_or_column(value, scope, depth - 1) for value in values)), "")
    return ""


def _beside_indices(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes of an expression without those that index: `maps[row, column]` is a value, neither row nor column."""
    yield node
    for part in [node.value] if isinstance(node, ast.Subscript) else ast.iter_child_nodes(node):
        yield from _beside_indices(part)
