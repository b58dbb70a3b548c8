"""Errors in which differences cancel: the absolute value, or the square, of a mean of differences."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, is_constant, is_operation, last_name, receiver_of

_ABSOLUTE = re.compile(r"(.*_)?(mae|mean_abs(olute)?_err(or)?)(_.*)?")
_SQUARED = re.compile(r"(.*_)?(r?mse|(root_)?mean_squared?_err(or)?)(_.*)?")
_SHOWN = ("item", "float", "tolist", "cpu", "numpy", "detach", "round", "sqrt")
"""Functions that only convert an error, or take its root."""


def means_of_differences(source: ScriptSource) -> Iterator[tuple[str, ast.expr, bool]]:
    """Values that are named an error, but in which differences cancel, `(a - b).mean().abs()`: the name, the value, and
    whether the name is that of a squared error."""
    for name, value in _named(source):
        squared = _SQUARED.fullmatch(name.lower()) is not None
        if squared or _ABSOLUTE.fullmatch(name.lower()):
            inner = _without_sign(_bare(value), squared)
            if inner is not None and _is_mean_of_difference(source, inner):
                yield name, value, squared


def _named(source: ScriptSource) -> Iterator[tuple[str, ast.expr]]:
    """Values with a name: assigned variables, keyword arguments, entries of dicts, and results of functions."""
    for node in source.nodes(ast.Assign, ast.keyword, ast.Dict, ast.Return):
        if isinstance(node, ast.Assign):
            yield from ((last_name(target), node.value) for target in node.targets)
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg, node.value
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            yield from ((str(key.value), value) for key, value in pairs if isinstance(key, ast.Constant))
        elif isinstance(node, ast.Return) and node.value is not None:
            function = source.function_of(node)
            yield (function.name if function is not None else ""), node.value


def _bare(value: ast.expr) -> ast.expr:
    """The error within calls that convert it or take its root."""
    while isinstance(value, ast.Call) and called(value) in _SHOWN:
        inner = _first(value)
        if inner is None:
            break
        value = inner
    if is_operation(value, ast.Pow) and is_constant(value.right, 0.5):
        return _bare(value.left)
    return value


def _first(call: ast.Call) -> ast.expr | None:
    """The first operand of a function or a method: `x` of `x.mean()`, `mean(x)` and `torch.mean(x)`."""
    owner = receiver_of(call)
    if owner is None or (call.args and last_name(owner) in _MODULES):
        return call.args[0] if call.args else None
    return owner


_MODULES = ("torch", "np", "numpy", "jnp", "math")


def _without_sign(value: ast.expr, squared: bool) -> ast.expr | None:
    """The operand of an absolute value, or of a square; None for other expressions."""
    if is_operation(value, ast.Pow) and squared and is_constant(value.right, 2):
        return value.left
    if not isinstance(value, ast.Call):
        return None
    power = called(value) == "pow" and bool(value.args) and is_constant(value.args[-1], 2)
    removes = called(value) == "square" or power if squared else called(value) in ("abs", "absolute", "fabs")
    return _first(value) if removes else None


def _is_mean_of_difference(source: ScriptSource, node: ast.expr) -> bool:
    inner = _first(node) if isinstance(node, ast.Call) and called(node) == "mean" else None
    if isinstance(inner, ast.Name):
        inner = source.last_value(node, inner.id)
    return is_operation(inner, ast.Sub)
