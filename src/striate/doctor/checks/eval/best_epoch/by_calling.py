"""Objects of the script that are called with a loss and treat the highest as the best, or the lowest of scores."""

from __future__ import annotations

import ast
import copy
import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

from torch import nn

from striate.doctor.checks.eval.best_epoch.metric_words import HIGH, LOW, NEGATIVE, assigned_values, negates, words_of
from striate.doctor.setup.reached_objects import written_by_user
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, nodes_in, receiver_of
from striate.records import Finding

_HARMLESS = frozenset((
    "print", "deepcopy", "copy", "state_dict", "clone", "detach", "cpu", "items", "float", "int", "abs", "len", "min",
    "max", "round", "isinstance", "format", "append",
))  # fmt: skip
"""Functions that such an object may call besides its own methods, so that calling it writes no file."""
_FIRST, _LOWER, _HIGHER = 1.0, 0.5, 2.0


def takes_the_worst(source: ScriptSource) -> Iterator[Finding]:
    """Objects that remember the best value, and whose copies remember the worse one when they are called as in the
    script."""
    for node in source.nodes(ast.Call):
        if not node.args or not isinstance(node.func, ast.Name | ast.Attribute):
            continue
        score = node.args[0]
        words = words_of(score)
        low, turned = bool(words & LOW), any(map(negates, [score, *assigned_values(source, score)]))
        if low == bool(words & HIGH) or words & NEGATIVE or turned:
            continue
        for holder, method in ((node.func, "__call__"), (receiver_of(node), called(node))):
            thing = None if holder is None else source.value(holder)
            higher = _takes_higher(source, node, thing, method) if _may_be_called(source, thing) else None
            if higher is low:
                yield Finding(
                    code="eval.worst-kept",
                    severity="error",
                    where=f"line {node.lineno}",
                    measured=f"`{type(thing).__name__}` treats the {'highest' if low else 'lowest'} "
                    f"`{ast.unparse(score)}` as the best: called with {_FIRST:g}, it remembers "
                    f"{_HIGHER if low else _LOWER:g} as better, and not {_LOWER if low else _HIGHER:g}",
                    threshold="an object that remembers the best treats the higher of two losses or errors, or the "
                    "lower of two scores, as better",
                    why="The saved epoch, or the one that ends the training, is the worst, not the best.",
                    remedy=f"the opposite mode where `{type(thing).__name__}` is created",
                )
                break


def _may_be_called(source: ScriptSource, thing: Any) -> bool:
    """Whether an object is of a class of the script, remembers a best value, and does nothing else."""
    held, name = getattr(thing, "__dict__", {}), type(thing).__name__
    if isinstance(thing, nn.Module | type) or not written_by_user(type(thing).__module__):
        return False
    owner = next((one for one in source.nodes(ast.ClassDef) if one.name == name), None)
    if owner is None or not any("best" in key for key in held):
        return False
    own = {part.name for part in nodes_in(owner, ast.FunctionDef)}
    calls = [called(part) for part in nodes_in(owner, ast.Call)]
    return set(calls) <= own | _HARMLESS


def _takes_higher(source: ScriptSource, node: ast.Call, thing: Any, method: str) -> bool | None:
    """Whether an object remembers the higher of two numbers (True) or the lower (False); None where neither or both, or
    it cannot be called."""

    def value(argument: ast.expr) -> Any:
        known = source.value(argument)
        return nn.Linear(1, 1) if isinstance(known, nn.Module) else known

    rest = [value(argument) for argument in node.args[1:]]
    named = {str(word.arg): value(word.value) for word in node.keywords}
    if any(argument is None for argument in (*rest, *named.values())):
        return None
    remembers = []
    for number in (_LOWER, _HIGHER):
        try:
            tried = copy.deepcopy(thing)
            with redirect_stdout(io.StringIO()):
                for score in (_FIRST, number):
                    getattr(tried, method)(score, *rest, **named)
        except Exception:  # an object of the user's
            return None
        best = [one for key, one in vars(tried).items() if "best" in key and isinstance(one, int | float)]
        remembers.append(number in map(abs, best))
    return remembers[1] if remembers[0] is not remembers[1] else None
