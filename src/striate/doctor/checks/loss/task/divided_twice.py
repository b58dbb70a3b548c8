"""`loss.wrong-for-task`: a mean that is divided by a count once more, as other terms of the loss are, which are
sums."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import Function, ScriptSource
from striate.doctor.setup.syntax import assigned, called, is_operation
from striate.records import Finding

_LOSSES = frozenset((
    *("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div"),
    *("binary_cross_entropy", "binary_cross_entropy_with_logits"),
))  # fmt: skip
_COUNTS = ("sum", "count_nonzero", "numel")
_DEPRECATED = {"size_average", "reduce"}


def _run(evidence: Evidence) -> Iterator[Finding]:
    for function in evidence.source.nodes(ast.FunctionDef):
        quotients = list(_quotients(evidence.source, function))
        sums = {count: node for node, count, kind in quotients if kind == "sum"}
        for node, count, kind in quotients:
            if kind == "mean" and count in sums:
                yield _finding(node, count, sums[count])
                return


def _quotients(source: ScriptSource, function: Function) -> Iterator[tuple[ast.BinOp, str, str]]:
    """Each quotient of a loss and a count in a function, with the count and "sum" or "mean" for the loss."""
    values = defaultdict[str, list[ast.expr]](list)
    for part in ast.walk(function):
        for target, value in assigned(part):
            values[ast.unparse(target)].append(value)
    for node in ast.walk(function):
        if not is_operation(node, ast.Div):
            continue
        count, loss = ast.unparse(node.right), _without_weight(node.left)
        if not all(map(_counts, values.get(count, [node.right]))):
            continue
        known = values.get(ast.unparse(loss), [loss])
        kind = _reduction(source, _without_weight(known[0])) if len(known) == 1 else None
        if kind is not None:
            yield node, count, kind


def _without_weight(term: ast.expr) -> ast.expr:
    """A term without its constant factors; any other factor is kept, since it may turn a mean into a sum."""
    while is_operation(term, ast.Mult):
        if isinstance(term.left, ast.Constant):
            term = term.right
        elif isinstance(term.right, ast.Constant):
            term = term.left
        else:
            break
    return term


def _counts(value: ast.expr) -> bool:
    """Whether an expression counts marked values or all values, as `mask.sum().clamp(min=1)` does."""
    names = {called(part) for part in ast.walk(value)}
    return bool(names & {*_COUNTS}) and not names & _LOSSES


def _reduction(source: ScriptSource, node: ast.expr) -> str | None:
    """The reduction of a call of one of torch's losses, if it is "sum" or "mean"; None for anything else."""
    if not isinstance(node, ast.Call) or called(node) not in _LOSSES:
        return None
    options = {word.arg: source.value(word.value) for word in node.keywords}
    kind = options.get("reduction", "mean")
    return str(kind) if kind in ("sum", "mean") and not options.keys() & {*_DEPRECATED, None} else None


def _finding(node: ast.BinOp, count: str, other: ast.BinOp) -> Finding:
    return DIVIDED_TWICE.finding(
        severity="warning",
        where=f"line {node.lineno}",
        measured=f"`{ast.unparse(node)}` divides a mean by `{count}`, by which the sum in line {other.lineno} is "
        "divided to become a mean",
        why="It is divided twice: the larger the batch, the less this term counts beside the others.",
        remedy="sum it as well, with `reduction='sum'`, or do not divide it",
    )


DIVIDED_TWICE = Check(
    codes=("loss.wrong-for-task",),
    threshold="a loss that is a mean, divided by a count by which another loss of the same function, a sum, is divided",
    run=_run,
    of_source=True,
    explains="fit.*",
)
