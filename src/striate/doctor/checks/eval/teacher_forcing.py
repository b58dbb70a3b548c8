"""`eval.mode` of networks that predict step by step: are they shown the true previous steps in evaluation as well?"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import Function, ScriptSource
from striate.doctor.setup.syntax import assigned, called, defaults_of, last_name, names_in, nodes_in
from striate.records import Finding

_RATIO = re.compile(r"teacher|forcing|(^|_)tf(_(ratio|prob|rate|p))?$", re.IGNORECASE)
_LOSS = re.compile(r"loss|criterion|cross_entropy|nll|perplexity|ppl|loglik", re.IGNORECASE)
_SHAPES = ("size", "shape", "reshape", "view", "flatten", "transpose", "permute", "contiguous", "squeeze")


def _run(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    for function in source.nodes(ast.FunctionDef):
        ratio, default = _ratio_of(function)
        if not ratio or not _is_drawn_by(function, ratio) or _asks_for_mode(function):
            continue
        for call in _calls(source, function):
            if not source.without_gradient(call):
                continue
            given = next((value for name, value in source.arguments(function, call) if name == ratio), default)
            value = None if given is None else source.value(given)
            if not isinstance(value, int | float) or not value > 0 or (value >= 1 and _is_only_lost(source, call)):
                continue
            shown = "always" if value >= 1 else f"with a probability of {value:g}"
            yield TEACHER_FORCING.finding(
                severity="warning",
                where=f"the evaluation, {source.where(call)}",
                measured=f"`{ast.unparse(call)}` is called without gradients with `{ratio}={value:g}`: the network is "
                f"{shown} given the true previous step instead of its own prediction",
                why="Nobody knows the true steps when the network is used: its own errors add up then, and the metric "
                "shows those of a single step.",
                remedy=f"pass `{ratio}=0` in evaluation",
            )
            return


def _ratio_of(function: ast.FunctionDef) -> tuple[str, ast.expr | None]:
    """The parameter that says how often the true previous step is shown, and its default; an empty name without one."""
    parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    name = next((part.arg for part in parameters if _RATIO.search(part.arg)), "")
    return name, defaults_of(function).get(name)


def _is_drawn_by(function: ast.FunctionDef, ratio: str) -> bool:
    """Whether a random number is compared with the parameter."""
    return any(
        ratio in names_in(node) and any(called(part).startswith("rand") for part in ast.walk(node))
        for node in nodes_in(function, ast.Compare)
    )


def _asks_for_mode(function: ast.FunctionDef) -> bool:
    return any(part.attr == "training" for part in nodes_in(function, ast.Attribute))


def _calls(source: ScriptSource, function: ast.FunctionDef) -> Iterator[ast.Call]:
    """Calls of a function, and, if it is `forward`, of networks of its class, `model(x, y)`."""
    yield from (site.node for site in source.calls_of(function))
    owner = next(source.enclosing(function, ast.ClassDef), None)
    if function.name != "forward" or owner is None:
        return
    for node in source.nodes(ast.Call):
        if type(source.value(node.func)).__name__ == owner.name:
            yield node


def _is_only_lost(source: ScriptSource, call: ast.Call) -> bool:
    """Whether only a loss gets the result of a call, whose value given the true steps is a usual measure."""
    outer = source.parent(call)
    if isinstance(outer, ast.Call):
        return bool(_LOSS.search(called(outer)))
    names = (
        {ast.unparse(to) for to, value in assigned(outer) if value is call} if isinstance(outer, ast.stmt) else set()
    )
    scope: Function | ast.AST = source.scope_of(call)
    read = [
        node
        for node in nodes_in(scope, ast.Name)
        if node.id in names and isinstance(node.ctx, ast.Load) and node.lineno >= call.lineno
    ]
    return bool(read) and all(_is_in_loss(source, node) or _is_shaped(source, node) for node in read)


def _is_in_loss(source: ScriptSource, node: ast.AST) -> bool:
    return any(_LOSS.search(called(around)) for around in source.enclosing(node, ast.Call))


def _is_shaped(source: ScriptSource, node: ast.Name) -> bool:
    """Whether a variable is only asked for its shape, or assigned to itself in another."""
    outer = source.parent(node)
    return isinstance(outer, ast.Attribute) and last_name(outer) in _SHAPES


TEACHER_FORCING = Check(
    codes=("eval.mode",),
    threshold="a call without gradients of a function that compares a random number with a parameter named for teacher "
    "forcing, which is above 0 there; a network that asks `self.training`, and a loss given all true steps, are right",
    run=_run,
    of_source=True,
)
