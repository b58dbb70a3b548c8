"""Calls, arguments and assignments in Python syntax."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, TypeGuard, TypeVar, overload

Node = TypeVar("Node", bound=ast.AST)


@overload
def nodes_in(within: ast.AST | Iterable[ast.AST]) -> Iterator[ast.AST]: ...


@overload
def nodes_in(within: ast.AST | Iterable[ast.AST], *kinds: type[Node]) -> Iterator[Node]: ...


def nodes_in(within: ast.AST | Iterable[ast.AST], *kinds: type[ast.AST]) -> Iterator[ast.AST]:
    """All nodes in a node, or in several such as the body of a loop; or those of the given kinds."""
    parts = [within] if isinstance(within, ast.AST) else within
    return (node for part in parts for node in ast.walk(part) if not kinds or isinstance(node, kinds))


def is_operation(node: ast.AST | None, *operators: type[ast.operator]) -> TypeGuard[ast.BinOp]:
    """Whether a node is an arithmetic operation with one of these operators."""
    return isinstance(node, ast.BinOp) and isinstance(node.op, operators)


def is_constant(node: ast.AST | None, value: object) -> bool:
    """Whether a node is this constant."""
    return isinstance(node, ast.Constant) and node.value == value


def says_no_gradient(given: Iterable[ast.expr]) -> bool:
    """Whether one of these context managers or decorators is `torch.no_grad()` or `torch.inference_mode()`."""
    return any((called(part) or last_name(part)) in ("no_grad", "inference_mode") for part in given)


def called(node: ast.AST) -> str:
    """The last name of a called function: `step` for `self.optimizer.step()`; empty for other nodes."""
    return last_name(node.func) if isinstance(node, ast.Call) else ""


def last_name(node: ast.AST) -> str:
    """The name of a variable or an attribute; empty for other nodes."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def variable_of(node: ast.AST) -> str:
    """The variable that an expression such as `self.rows[3]` starts from; empty for one that starts from a call."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def names_in(node: ast.AST) -> set[str]:
    """The names of all variables in a node."""
    return {part.id for part in nodes_in(node, ast.Name)}


def stored_in(node: ast.AST) -> set[str]:
    """The names of the variables that a node assigns."""
    return {part.id for part in nodes_in(node, ast.Name) if isinstance(part.ctx, ast.Store)}


def definition_of(function: Any) -> ast.stmt | None:
    """The syntax of a function or method; None where its source is not available."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, SyntaxError, TypeError, ValueError):
        return None
    return tree


def receiver_of(node: ast.Call) -> ast.expr | None:
    """The object that a method is called on; None for a call of a name."""
    return node.func.value if isinstance(node.func, ast.Attribute) else None


def argument(node: ast.Call, place: int, name: str) -> ast.expr | None:
    """An argument by its position or its name; None where it is missing."""
    named = next((word.value for word in node.keywords if word.arg == name), None)
    return named if named is not None else node.args[place] if place < len(node.args) else None


def defaults_of(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> dict[str, ast.expr]:
    """The default values of a function's parameters, by name."""
    parameters = function.args
    positional = [part.arg for part in (*parameters.posonlyargs, *parameters.args)]
    found = dict(zip(reversed(positional), reversed(parameters.defaults), strict=False))
    by_keyword = zip(parameters.kwonlyargs, parameters.kw_defaults, strict=True)
    return found | {part.arg: value for part, value in by_keyword if value is not None}


def assigned(statement: ast.AST) -> Iterator[tuple[ast.AST, ast.expr]]:
    """The targets of an assignment, each with the assigned expression: two for `a, b = x, y`."""
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            values = statement.value.elts if isinstance(statement.value, ast.Tuple) else []
            if isinstance(target, ast.Tuple) and len(target.elts) == len(values):
                yield from zip(target.elts, values, strict=True)
            else:
                yield target, statement.value
    elif isinstance(statement, ast.AugAssign | ast.AnnAssign) and statement.value is not None:
        yield statement.target, statement.value
