"""Right predictions counted where a mask is set, and divided by all positions, padding included."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, is_operation, names_in, nodes_in, receiver_of

_MASK = re.compile(r"mask|pad|valid|real|keep|active")
_ALL = ("numel", "nelement")


def padding_counted(source: ScriptSource) -> Iterator[ast.BinOp]:
    """Quotients of the right predictions where a mask is set and the number of all targets."""
    for node in source.nodes():
        if not is_operation(node, ast.Div):
            continue
        scope = source.scope_of(node)
        compared = {name for made in _made(scope, node.left) for name in _masked(scope, made)}
        if compared and any(_numbers_of_all(made) & compared for made in _made(scope, node.right)):
            yield node


def _made(scope: ast.AST, value: ast.expr) -> Iterator[ast.expr]:
    """An expression, and the values that are assigned or added to its variables."""
    names = names_in(value)
    yield value
    for node in ast.walk(scope):
        if (isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id in names) or (
            isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id in names for t in node.targets)
        ):
            yield node.value


def _masked(scope: ast.AST, value: ast.expr) -> Iterator[str]:
    """The names that are compared in `((predicted == targets) & mask).sum()`."""
    for node in ast.walk(value):
        if not is_operation(node, ast.BitAnd, ast.Mult):
            continue
        for one, mask in ((node.left, node.right), (node.right, node.left)):
            right = [part for part in nodes_in(one, ast.Compare) if isinstance(part.ops[0], ast.Eq)]
            if right and _is_mask(scope, mask):
                yield from (part.id for part in nodes_in(right[0], ast.Name))


def _is_mask(scope: ast.AST, value: ast.expr) -> bool:
    """Whether an expression masks padding: `targets != PAD`, or a variable named or assigned as such a mask."""
    while isinstance(value, ast.Call) and (owner := receiver_of(value)) is not None:
        value = owner
    if isinstance(value, ast.Compare):
        return isinstance(value.ops[0], ast.NotEq)
    if not isinstance(value, ast.Name):
        return False
    values = (node.value for node in nodes_in(scope, ast.Assign) if _is_named(node, value.id))
    return bool(_MASK.search(value.id.lower())) or any(
        isinstance(one, ast.Compare) and isinstance(one.ops[0], ast.NotEq) for one in values
    )


def _is_named(node: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)


def _numbers_of_all(value: ast.expr) -> set[str]:
    """The names of tensors whose `numel()` an expression takes."""
    owners = (receiver_of(node) for node in nodes_in(value, ast.Call) if called(node) in _ALL)
    return {owner.id for owner in owners if isinstance(owner, ast.Name)}
