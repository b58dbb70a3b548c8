"""Numbers that are scaled back by a variance, although standardization divided them by a standard deviation."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import is_operation

_MEANS = {"var_": "mean_", "running_var": "running_mean"}
"""Attributes of scikit-learn's scalers and torch's batch norm: variances, and the means that belong to them."""


def by_variance(source: ScriptSource) -> Iterator[tuple[ast.BinOp, str]]:
    """Sums `y * scaler.var_ + scaler.mean_` of one scaler, or of one of its columns, each with the source of the
    variance."""
    for node in source.nodes(ast.BinOp):
        for scaled, mean in ((node.left, node.right), (node.right, node.left)):
            if not (isinstance(node.op, ast.Add) and is_operation(scaled, ast.Mult)):
                continue
            for factor in (scaled.left, scaled.right):
                held, added = _attribute(factor), _attribute(mean)
                if held is None or added is None or _MEANS.get(held.attr) != added.attr:
                    continue
                if ast.unparse(held.value) == ast.unparse(added.value):
                    yield node, ast.unparse(factor)


def _attribute(node: ast.expr) -> ast.Attribute | None:
    """The attribute in an expression such as `scaler.mean_` or `scaler.mean_[0]`; None in others."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node if isinstance(node, ast.Attribute) else None
