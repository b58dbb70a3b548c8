"""Comparisons that save the worse of two values, or that never hold."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from striate.doctor.checks.eval.best_epoch.metric_words import (
    HIGH,
    LOW,
    NEGATIVE,
    assigned_values,
    if_decisive,
    negates,
    words_of,
    words_of_arguments,
    words_of_hit_rate,
    words_of_result,
    words_of_sum,
)
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import Function, ScriptSource
from striate.doctor.setup.syntax import assigned, called, is_operation, last_name
from striate.errors import StriateError
from striate.records import Finding


def compared_wrongly(evidence: Evidence) -> Iterator[Finding]:
    """Wrong comparisons of the form `if new > best: best = new`, by the metrics that are compared, and by the value
    that the best starts with."""
    source = evidence.source
    for node in source.nodes():
        test = _comparison(node)
        if test is None:
            continue
        if (never_better := _never_better(evidence, node, test)) is not None:
            line, start, better = never_better
            yield Finding(
                code="eval.worst-kept",
                severity="error",
                where=f"line {line}",
                measured=f"the best value starts at {start:g}, so `{ast.unparse(test)}` never holds",
                threshold="a best loss or error that starts at 0 or less, though all losses are above 0, or a best "
                "score that starts at infinity",
                why="No epoch is ever saved: the weights used at the end are those from before training, or of the "
                "last epoch.",
                remedy=f"start with `float('{better}')`",
            )
        elif (takes_worse := _takes_worse(source, node, test)) is not None:
            kind, sign = takes_worse
            yield Finding(
                code="eval.worst-kept",
                severity="error",
                where=f"line {test.lineno}",
                measured=f"`{ast.unparse(test)}` treats a {kind} as better",
                threshold="by their names, the higher of two losses or errors, or the lower of two scores, is taken "
                "as the best",
                why="The epoch that is saved, and evaluated at the end, is the worst, not the best.",
                remedy=f"compare the other way: `{_turned(test, sign)}`, and start with "
                f"`float('{'inf' if sign == '<' else '-inf'}')`",
            )


def _comparison(node: ast.AST) -> ast.Compare | None:
    """The comparison in `if new > best:` or `is_best = new > best`, also among other conditions; None where there is
    none."""
    test = node.test if isinstance(node, ast.If) else node.value if isinstance(node, ast.Assign) else None
    if isinstance(test, ast.BoolOp):  # `best is None or new > best or epoch == 0`, `phase == "val" and new > best`
        sides = [part for part in test.values if isinstance(part, ast.Compare) and "best" in words_of(part)]
        test = sides[-1] if sides else None
    return test if isinstance(test, ast.Compare) else None


def _takes_worse(source: ScriptSource, node: ast.AST, test: ast.Compare) -> tuple[str, str] | None:
    """What `if new > best: best = new` saves, if `new` is a metric that should be low, or `<` if it should be high, and
    the right sign; None for right comparisons."""
    found = _best_comparison(source, node, test)
    if found is None or found.low != found.greater:
        return None
    return ("higher loss", "<") if found.low else ("lower score", ">")


class _BestComparison(NamedTuple):
    """A comparison that decides whether a new value becomes the best."""

    low: bool
    """Whether the metric should be low."""
    greater: bool
    """Whether the greater value becomes the best."""
    best: ast.expr
    """The variable that holds the best value."""


def _best_comparison(source: ScriptSource, node: ast.AST, test: ast.Compare) -> _BestComparison | None:
    """The comparison of `if new > best: best = new`; None where the names do not say whether the metric should be
    low."""
    if len(test.ops) != 1:
        return None
    one, other = test.left, test.comparators[0]
    greater = isinstance(test.ops[0], ast.Gt | ast.GtE)
    if not greater and not isinstance(test.ops[0], ast.Lt | ast.LtE):
        return None
    one, other = _without_margin(one), _without_margin(other)
    if "best" in words_of(one):
        one, other, greater = other, one, not greater
    if "best" not in words_of(other) or negates(test):
        return None
    if not _becomes_best(source, node, one, other):
        return None
    made, own = assigned_values(source, one), words_of(one)
    words = (words_of_result(source, made) if isinstance(one, ast.Name) else set()) or words_of_arguments(source, one)
    words = (
        words
        or if_decisive(own | words_of(other))
        or words_of_result(source, made, by_names=True)
        or words_of_hit_rate(source, made)
    )
    words = words or (words_of_sum(made[0]) if len(made) == 1 else set())
    words |= own & NEGATIVE
    low, high = bool(words & LOW), bool(words & HIGH)
    return None if low == high or words & NEGATIVE else _BestComparison(low, greater, other)


def _never_better(evidence: Evidence, node: ast.AST, test: ast.Compare) -> tuple[int, float, str] | None:
    """The line, the value at the start, and the value that is right there, if the best value starts so good that none
    is ever better, such as a loss at 0; None otherwise. Losses that may be negative are left out."""
    source = evidence.source
    condition = node.test if isinstance(node, ast.If) else node.value if isinstance(node, ast.Assign) else None
    found = _best_comparison(source, node, test)
    alone = condition is test or (isinstance(condition, ast.BoolOp) and isinstance(condition.op, ast.And))
    if found is None or found.low == found.greater or not alone:  # `epoch == 0 or loss < best`
        return None
    text = ast.unparse(found.best)
    around = [part for part in source.enclosing(node) if isinstance(part, Function | ast.ClassDef | ast.Module)]
    if isinstance(found.best, ast.Attribute):
        around = [part for part in around if isinstance(part, ast.ClassDef)]
    within = set(ast.walk(node)) if isinstance(node, ast.If) else set[ast.AST]()
    starts = [
        value
        for statement in (ast.walk(around[0]) if around else ())
        if statement not in within
        for target, value in assigned(statement)
        if ast.unparse(target) == text
    ]
    numbers = [float(number) for value in starts if isinstance(number := _number(value), int | float)]
    if not starts or len(numbers) < len(starts):
        return None
    unbeaten = max(numbers) <= 0 and _above_zero(evidence) if found.low else min(numbers) == math.inf
    return (starts[0].lineno, numbers[0], "inf" if found.low else "-inf") if unbeaten else None


def _above_zero(evidence: Evidence) -> bool:
    """Whether all losses of the trial are above zero."""
    with suppress(NoEvidence, StriateError):
        return min(evidence.trial.losses, default=0.0) > 0
    return False


def _number(value: ast.expr) -> Any:
    """The value of a constant, `float("inf")` among them; None for other expressions."""
    if isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub):
        number = _number(value.operand)
        return -number if isinstance(number, int | float) else None
    if called(value) == "float" and isinstance(value, ast.Call) and len(value.args) == 1:
        value = value.args[0]
        return float(value.value) if isinstance(value, ast.Constant) and value.value in ("inf", "-inf") else None
    return value.value if isinstance(value, ast.Constant) else {"inf": math.inf}.get(last_name(value))


def _turned(test: ast.Compare, sign: str) -> str:
    one, other = test.left, test.comparators[0]
    new, best = (other, one) if "best" in words_of(one) else (one, other)
    if isinstance(best, ast.BinOp) and best.left is _without_margin(best):
        margin = f"{'+' if sign == '>' else '-'} {ast.unparse(best.right)}"
        return f"{ast.unparse(new)} {sign} {ast.unparse(best.left)} {margin}"
    return f"{ast.unparse(new)} {sign} {ast.unparse(best)}"


def _without_margin(side: ast.expr) -> ast.expr:
    """`best` of `best + delta`; other expressions unchanged."""
    if is_operation(side, ast.Add, ast.Sub) and "best" in words_of(side.left):
        return side.left
    return side


def _becomes_best(source: ScriptSource, node: ast.AST, one: ast.expr, other: ast.expr) -> bool:
    """Whether the new value becomes the best: under the condition, or by `best = max(new, best)` in the same
    function."""
    scope = node if isinstance(node, ast.If) else source.scope_of(node)
    new, best = ast.unparse(one), ast.unparse(other)
    for part in ast.walk(scope):
        if (
            isinstance(part, ast.Assign)
            and isinstance(part.value, ast.Tuple)
            and isinstance(part.targets[0], ast.Tuple)
        ):
            pairs = zip(part.targets[0].elts, part.value.elts, strict=False)
            if any(ast.unparse(target) == best and ast.unparse(value) == new for target, value in pairs):
                return True
        if isinstance(part, ast.Assign) and any(ast.unparse(target) == best for target in part.targets):
            extreme = isinstance(part.value, ast.Call) and called(part.value) in ("max", "min")
            operands = {ast.unparse(word) for word in part.value.args} if isinstance(part.value, ast.Call) else set()
            either = (
                {ast.unparse(part.value.body), ast.unparse(part.value.orelse)}
                if isinstance(part.value, ast.IfExp)
                else set()
            )
            if ast.unparse(part.value) == new or (extreme and operands == {new, best}) or either == {new, best}:
                return True
    return False
