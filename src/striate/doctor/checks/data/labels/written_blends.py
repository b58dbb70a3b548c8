"""`data.step-labels` in the code: do inputs and labels that a script blends (mixup) get the same weights?"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import assigned, is_constant, is_operation, nodes_in
from striate.records import Finding


def _run(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    first: dict[tuple[ast.AST, str], tuple[bool, ast.BinOp]] = {}
    read: dict[ast.AST, tuple[Received, set[str]]] = {}
    for sum_ in source.nodes(ast.BinOp):
        if not is_operation(sum_, ast.Add):
            continue
        scope = source.scope_of(sum_)
        if scope not in read:
            given = _received(source, scope)
            read[scope] = given, _partners(scope) | _received_partners(given)
        received, partners = read[scope]
        if (found := _blend(sum_, partners)) is None:
            continue
        weight, of_own = found
        function, returned = received.get(weight, (scope, None))
        name = returned.id if isinstance(returned, ast.Name) else weight
        known, other = first.setdefault((function, name), (of_own, sum_))
        if known is not of_own:
            yield WRITTEN_BLENDS.finding(
                severity="error",
                where=source.where(sum_),
                measured=f"`{name}` weighs the {_which(known)} in `{ast.unparse(other)}`, and the "
                f"{_which(of_own)} in `{ast.unparse(sum_)}`",
                why="Each input is mostly trained on the label of the sample that it contains least of.",
                remedy=f"give the labels the weights of the inputs: `{name}` for the sample's own label, and "
                f"`1 - {name}` for that of its partner",
            )
            return


Received = dict[str, tuple[ast.AST, ast.expr]]
"""Variables that get a part of what a function of the script returns: the function, and the expression it returns."""


def _received(source: ScriptSource, scope: ast.AST) -> Received:
    """What a scope receives by `x, y_a, y_b, lam = mixup(x, y)`, or as arguments that its caller receives so."""
    found = _unpacked(source, scope)
    if isinstance(scope, ast.FunctionDef):
        for site in source.calls_of(scope):
            known = _unpacked(source, source.scope_of(site.node))
            for name, given in source.arguments(scope, site.node):
                if isinstance(given, ast.Name) and given.id in known:
                    found[name] = known[given.id]
    return found


def _unpacked(source: ScriptSource, scope: ast.AST) -> Received:
    found: Received = {}
    for statement in nodes_in(scope, ast.Assign):
        (target, *_), call = statement.targets, statement.value
        if isinstance(target, ast.Tuple) and isinstance(call, ast.Call) and source.scope_of(statement) is scope:
            for function in source.functions_of(call):
                returned = [node.value for node in nodes_in(function, ast.Return) if isinstance(node.value, ast.Tuple)]
                if returned and len(returned[-1].elts) == len(target.elts):
                    pairs = zip(target.elts, returned[-1].elts, strict=True)
                    found |= {name.id: (function, part) for name, part in pairs if isinstance(name, ast.Name)}
    return found


def _received_partners(received: Received) -> set[str]:
    return {
        name
        for name, (function, part) in received.items()
        if _is_reordered(part) or (isinstance(part, ast.Name) and part.id in _partners(function))
    }


def _which(own: bool) -> str:
    return "samples themselves" if own else "samples in another order"


def _partners(scope: ast.AST) -> set[str]:
    """Variables that are assigned samples in the order of an index: `y_b = y[perm]`, `y_a, y_b = y, y[perm]`."""
    found: set[str] = set()
    for statement in nodes_in(scope, ast.Assign):
        for target, value in assigned(statement):
            if isinstance(target, ast.Name) and _is_reordered(value):
                found.add(target.id)
    return found


def _is_reordered(node: ast.AST) -> bool:
    """Whether rows are taken by a variable, `y[perm]`, or reversed, `y.flip(0)`."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Name)
    reverses = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "flip"
    return reverses and len(node.args) == 1 and is_constant(node.args[0], 0)  # type: ignore[attr-defined]


def _blend(node: ast.BinOp, partners: set[str]) -> tuple[str, bool] | None:
    """For `weight * own + (1 - weight) * other`, the weight, and whether it is that of the sample itself and not of its
    partner; None for other sums, and where both or neither is reordered."""
    if not is_operation(node, ast.Add) or not all(is_operation(part, ast.Mult) for part in (node.left, node.right)):
        return None
    for one in _factors(node.left):
        for other in _factors(node.right):
            for (weight, own), (rest, partner) in ((one, other), (other, one)):
                if not isinstance(weight, ast.Name | ast.Attribute) or not _is_rest(rest, ast.unparse(weight)):
                    continue
                moved = [_holds_partner(part, partners) for part in (own, partner)]
                if moved[0] is not moved[1]:
                    return ast.unparse(weight), not moved[0]
    return None


def _factors(node: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    return [(node.left, node.right), (node.right, node.left)] if isinstance(node, ast.BinOp) else []


def _is_rest(node: ast.expr, weight: str) -> bool:
    """Whether it is `1 - weight`."""
    return is_operation(node, ast.Sub) and is_constant(node.left, 1) and ast.unparse(node.right) == weight


def _holds_partner(node: ast.AST, partners: set[str]) -> bool:
    return any(_is_reordered(part) or (isinstance(part, ast.Name) and part.id in partners) for part in ast.walk(node))


WRITTEN_BLENDS = Check(
    codes=("data.step-labels",),
    threshold="two sums `w * a + (1 - w) * b` with the same weight, of which one weighs the samples in another order "
    "by `w`, and the other one by `1 - w`",
    run=_run,
    of_source=True,
    explains="fit.*",
)
