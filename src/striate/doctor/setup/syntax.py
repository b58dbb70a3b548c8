"""What is called in a piece of syntax, with which arguments, and what is given a value."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any


def says_no_gradient(given: Iterable[ast.expr]) -> bool:
    """Whether one of these, of a block or a function, is `torch.no_grad()` or `torch.inference_mode()`."""
    return any((called(part) or last_name(part)) in ("no_grad", "inference_mode") for part in given)


def called(node: ast.AST) -> str:
    """The last name of what is called: `step` of `self.optimizer.step()`."""
    return last_name(node.func) if isinstance(node, ast.Call) else ""


def last_name(node: ast.AST) -> str:
    """The name of a variable, or the last one of an attribute; empty for all else."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def variable_of(node: ast.AST) -> str:
    """The variable that an expression such as `self.rows[3]` is a part of; empty for what a call makes."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def definition_of(function: Any) -> ast.stmt | None:
    """The syntax of a function or method alone; None where its source is not there."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, SyntaxError, TypeError, ValueError):
        return None
    return tree


def receiver_of(node: ast.Call) -> ast.expr | None:
    """What a method is called of."""
    return node.func.value if isinstance(node.func, ast.Attribute) else None


def argument(node: ast.Call, place: int, name: str) -> ast.expr | None:
    """An argument by its place or its name."""
    named = next((word.value for word in node.keywords if word.arg == name), None)
    return named if named is not None else node.args[place] if place < len(node.args) else None


def assigned(statement: ast.AST) -> Iterator[tuple[ast.AST, ast.expr]]:
    """What a statement gives values to, each with its value as it is written: `a, b = x, y` are two."""
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            values = statement.value.elts if isinstance(statement.value, ast.Tuple) else []
            if isinstance(target, ast.Tuple) and len(target.elts) == len(values):
                yield from zip(target.elts, values, strict=True)
            else:
                yield target, statement.value
    elif isinstance(statement, ast.AugAssign | ast.AnnAssign) and statement.value is not None:
        yield statement.target, statement.value
