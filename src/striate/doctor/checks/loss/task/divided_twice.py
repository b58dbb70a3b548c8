"""`loss.wrong-for-task`: a mean that is divided once more by the number by which other terms, which are sums, become
means.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import Function, ScriptSource
from striate.doctor.setup.syntax import assigned, called
from striate.records import Finding

_LOSSES = frozenset((
    *("cross_entropy", "nll_loss", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div"),
    *("binary_cross_entropy", "binary_cross_entropy_with_logits"),
))  # fmt: skip
_COUNTS = ("sum", "count_nonzero", "numel")
_DEPRECATED = {"size_average", "reduce"}


def _run(evidence: Evidence) -> Iterator[Finding]:
    for tree in evidence.source.trees.values():
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            divided = list(_divided(evidence.source, function))
            sums = {count: node for node, count, kind in divided if kind == "sum"}
            for node, count, kind in divided:
                if kind == "mean" and count in sums:
                    yield _finding(node, count, sums[count])
                    return


def _divided(source: ScriptSource, function: Function) -> Iterator[tuple[ast.BinOp, str, str]]:
    """Each loss that a function divides by a count, with the count and whether it is a sum or a mean."""
    written = defaultdict[str, list[ast.expr]](list)
    for part in ast.walk(function):
        for target, value in assigned(part):
            written[ast.unparse(target)].append(value)
    for node in ast.walk(function):
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Div):
            continue
        count, loss = ast.unparse(node.right), _without_weight(node.left)
        if not all(map(_counts, written.get(count, [node.right]))):
            continue
        known = written.get(ast.unparse(loss), [loss])
        kind = _reduction(source, _without_weight(known[0])) if len(known) == 1 else None
        if kind is not None:
            yield node, count, kind


def _without_weight(term: ast.expr) -> ast.expr:
    """What is multiplied by a plain number; another factor may make a sum of a mean."""
    while isinstance(term, ast.BinOp) and isinstance(term.op, ast.Mult):
        if isinstance(term.left, ast.Constant):
            term = term.right
        elif isinstance(term.right, ast.Constant):
            term = term.left
        else:
            break
    return term


def _counts(value: ast.expr) -> bool:
    """Whether it is the number of what is marked, or of all values, such as `mask.sum().clamp(min=1)`."""
    names = {called(part) for part in ast.walk(value)}
    return bool(names & {*_COUNTS}) and not names & _LOSSES


def _reduction(source: ScriptSource, node: ast.expr) -> str | None:
    """`sum` or `mean` of a call of a loss of torch; None of anything else."""
    if not isinstance(node, ast.Call) or called(node) not in _LOSSES:
        return None
    given = {word.arg: source.value(word.value) for word in node.keywords}
    kind = given.get("reduction", "mean")
    return str(kind) if kind in ("sum", "mean") and not given.keys() & {*_DEPRECATED, None} else None


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
    question="Is each term of the loss divided by a count only once?",
    threshold="a loss that is a mean, divided by a count by which another loss of the same function, a sum, is divided",
    run=_run,
    of_source=True,
    explains="fit.*",
)
