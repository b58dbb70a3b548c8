"""Comparisons that keep the worse of two values, or that no value ever passes."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from striate.doctor.checks.eval.kept.metric_words import (
    HIGH,
    LOW,
    NEGATIVE,
    given_to,
    made_of,
    share_right,
    telling,
    told,
    turns_round,
    words_of,
    words_of_sum,
)
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import Function, ScriptSource
from striate.doctor.setup.syntax import assigned, called, last_name
from striate.errors import StriateError
from striate.records import Finding


def compared_wrongly(evidence: Evidence) -> Iterator[Finding]:
    """Of `if new > best: best = new`, by what the names in it stand for, and by what the best begins with."""
    source = evidence.source
    for node in source.nodes():
        test = _comparison(node)
        if test is None:
            continue
        if (begun := _never_better(evidence, node, test)) is not None:
            line, start, better = begun
            yield Finding(
                code="eval.worst-kept",
                severity="error",
                where=f"line {line}",
                measured=f"the best value starts at {start:g}, so `{ast.unparse(test)}` never holds",
                threshold="a best loss or error that starts at 0 or less, though all losses are above 0, or a best "
                "score that starts at infinity",
                why="No epoch is ever kept: the weights used at the end are those from before training, or of the last "
                "epoch.",
                remedy=f"start with `float('{better}')`",
            )
        elif (said := _wrong_way(source, node, test)) is not None:
            kind, sign = said
            yield Finding(
                code="eval.worst-kept",
                severity="error",
                where=f"line {test.lineno}",
                measured=f"`{ast.unparse(test)}` treats a {kind} as better",
                threshold="by their names, the higher of two losses or errors, or the lower of two scores, is taken "
                "as the best",
                why="The epoch that is kept, and evaluated at the end, is the worst, not the best.",
                remedy=f"compare the other way: `{_turned(test, sign)}`, and start with "
                f"`float('{'inf' if sign == '<' else '-inf'}')`",
            )


def _comparison(node: ast.AST) -> ast.Compare | None:
    """`if new > best:`, or `is_best = new > best`, also beside other conditions."""
    test = node.test if isinstance(node, ast.If) else node.value if isinstance(node, ast.Assign) else None
    if isinstance(test, ast.BoolOp):  # `best is None or new > best or epoch == 0`, `phase == "val" and new > best`
        sides = [part for part in test.values if isinstance(part, ast.Compare) and "best" in words_of(part)]
        test = sides[-1] if sides else None
    return test if isinstance(test, ast.Compare) else None


def _wrong_way(source: ScriptSource, node: ast.AST, test: ast.Compare) -> tuple[str, str] | None:
    """Of `if new > best: best = new` with the name of what should be low, or of `<` with one that should be high, what
    is taken, and the sign that is right."""
    kept = _kept(source, node, test)
    if kept is None or kept.low != kept.greater:
        return None
    return ("higher loss", "<") if kept.low else ("lower score", ">")


class _Kept(NamedTuple):
    """A comparison by which the best is kept: whether it is of what should be low, whether the greater one is taken,
    and what holds the best."""

    low: bool
    greater: bool
    best: ast.expr


def _kept(source: ScriptSource, node: ast.AST, test: ast.Compare) -> _Kept | None:
    """Of `if new > best: best = new`; None where names do not tell whether it should be low."""
    if len(test.ops) != 1:
        return None
    one, other = test.left, test.comparators[0]
    greater = isinstance(test.ops[0], ast.Gt | ast.GtE)
    if not greater and not isinstance(test.ops[0], ast.Lt | ast.LtE):
        return None
    one, other = _without_margin(one), _without_margin(other)
    if "best" in words_of(one):
        one, other, greater = other, one, not greater
    if "best" not in words_of(other) or turns_round(test):
        return None
    if not _taken(source, node, one, other):
        return None
    made, own = made_of(source, one), words_of(one)
    words = (told(source, made) if isinstance(one, ast.Name) else set()) or given_to(source, one)
    words = words or telling(own | words_of(other)) or told(source, made, by_names=True) or share_right(source, made)
    words = words or (words_of_sum(made[0]) if len(made) == 1 else set())
    words |= own & NEGATIVE
    low, high = bool(words & LOW), bool(words & HIGH)
    return None if low == high or words & NEGATIVE else _Kept(low, greater, other)


def _never_better(evidence: Evidence, node: ast.AST, test: ast.Compare) -> tuple[int, float, str] | None:
    """Where the best begins so good that none is ever better, the line, what it begins with, and with what it should: a
    loss with 0, as a score does. A loss that is below zero may begin so."""
    source = evidence.source
    condition = node.test if isinstance(node, ast.If) else node.value if isinstance(node, ast.Assign) else None
    kept = _kept(source, node, test)
    alone = condition is test or (isinstance(condition, ast.BoolOp) and isinstance(condition.op, ast.And))
    if kept is None or kept.low == kept.greater or not alone:  # `epoch == 0 or loss < best`
        return None
    text = ast.unparse(kept.best)
    around = [part for part in source.enclosing(node) if isinstance(part, Function | ast.ClassDef | ast.Module)]
    if isinstance(kept.best, ast.Attribute):
        around = [part for part in around if isinstance(part, ast.ClassDef)]
    within = set(ast.walk(node)) if isinstance(node, ast.If) else set[ast.AST]()
    given = [
        value
        for statement in (ast.walk(around[0]) if around else ())
        if statement not in within
        for target, value in assigned(statement)
        if ast.unparse(target) == text
    ]
    numbers = [float(number) for value in given if isinstance(number := _number(value), int | float)]
    if not given or len(numbers) < len(given):
        return None
    unbeaten = max(numbers) <= 0 and _above_zero(evidence) if kept.low else min(numbers) == math.inf
    return (given[0].lineno, numbers[0], "inf" if kept.low else "-inf") if unbeaten else None


def _above_zero(evidence: Evidence) -> bool:
    """Whether the losses of the trial are."""
    with suppress(NoEvidence, StriateError):
        return min(evidence.trial.losses, default=0.0) > 0
    return False


def _number(value: ast.expr) -> Any:
    """What a constant is, also one that is written as `float("inf")`."""
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
    """`best` of `best + delta`, by which a value has to be better."""
    if isinstance(side, ast.BinOp) and isinstance(side.op, ast.Add | ast.Sub) and "best" in words_of(side.left):
        return side.left
    return side


def _taken(source: ScriptSource, node: ast.AST, one: ast.expr, other: ast.expr) -> bool:
    """Whether the best becomes the new one: under the condition, or `best = max(new, best)` beside it."""
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
            given = {ast.unparse(word) for word in part.value.args} if isinstance(part.value, ast.Call) else set()
            either = (
                {ast.unparse(part.value.body), ast.unparse(part.value.orelse)}
                if isinstance(part.value, ast.IfExp)
                else set()
            )
            if ast.unparse(part.value) == new or (extreme and given == {new, best}) or either == {new, best}:
                return True
    return False
