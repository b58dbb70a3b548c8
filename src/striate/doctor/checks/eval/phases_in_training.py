"""Functions that are told whether to train: those that evaluate by them, but leave the network in training mode."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from striate.doctor.setup.script_source import Function, ScriptSource, Site
from striate.doctor.setup.syntax import called

_EVALUATION = re.compile(r"(?<![a-z])(val|valid|validation|test|dev|eval|evaluation|holdout)(?![a-z])")


class PhaseInTraining(NamedTuple):
    """The line where the mode is set, the call, or the phase of a loop, without gradients, and what turns these off."""

    line: int
    call: str
    switch: str


def phases_in_training(source: ScriptSource, modes: list[Site]) -> Iterator[PhaseInTraining]:
    """Of a function that trains or evaluates as its arguments say, `run("test", loader)`, those of its calls that turn
    gradients off, or have no backward pass, but leave the network in training mode; likewise of a loop over phases.
    `modes`: all calls that set the mode of the network."""
    for site in modes:
        scope, function = source.scope_of(site.node), source.function_of(site.node)
        if called(site.node) != "train":
            continue
        others = [other.node for other in modes if other.node is not site.node and source.scope_of(other.node) is scope]
        told = list(_calls(source, function)) if function is not None else []
        for call, known in (*told, *_passes(source, site.node)):
            switch = _switched_off(source, scope, known)
            trains = switch and _trains(source, site.node, known) and _EVALUATION.search(call)
            if trains and not any(_stands(source, other, known) is not False for other in others):
                yield PhaseInTraining(site.node.lineno, call, switch)


def _calls(source: ScriptSource, function: Function) -> Iterator[tuple[str, dict[str, Any]]]:
    """Calls of a function, each with the parameters whose values are known; those that it leaves out have that of their
    default."""
    given, behind = function.args, [*function.args.posonlyargs, *function.args.args]
    defaults = dict(zip([part.arg for part in reversed(behind)], reversed(given.defaults), strict=False))
    defaults |= {part.arg: value for part, value in zip(given.kwonlyargs, given.kw_defaults, strict=True) if value}
    for site in source.calls_of(function):
        if any(isinstance(part, ast.Starred) for part in site.node.args):
            continue
        found = defaults | dict(source.arguments(function, site.node))
        known = {name: value for name, written in found.items() if (value := _told(source, written)) is not ...}
        yield site.text, known


def _told(source: ScriptSource, written: ast.expr) -> Any:
    """The value of an argument; the ellipsis where that is not known."""
    if isinstance(written, ast.Constant):
        return written.value
    value = source.value(written)
    return ... if value is None else value


def _passes(source: ScriptSource, node: ast.AST) -> Iterator[tuple[str, dict[str, Any]]]:
    """The passes of loops around a node over phases that are written out."""
    for loop in source.loops_of(node):
        phases = loop.iter.elts if isinstance(loop, ast.For) and isinstance(loop.iter, ast.List | ast.Tuple) else []
        for phase in phases:
            if isinstance(loop, ast.For) and isinstance(loop.target, ast.Name) and isinstance(phase, ast.Constant):
                yield f"{loop.target.id} = {phase.value!r}", {loop.target.id: phase.value}


def _conditions(source: ScriptSource, node: ast.AST) -> Iterator[tuple[ast.expr, bool]]:
    """The conditions under which a node stands in its function, each with whether it has to hold."""
    inside: ast.AST = node
    for part in source.enclosing(node):
        if isinstance(part, Function):
            return
        if isinstance(part, ast.If) and inside is not part.test:
            yield part.test, inside in part.body
        inside = part


def _stands(source: ScriptSource, node: ast.AST, known: dict[str, Any]) -> bool | None:
    """Whether a node is reached with these values; None where that is not known."""
    met = [
        None if (value := _value(source, test, known)) is None else value is wanted
        for test, wanted in _conditions(source, node)
    ]
    return False if False in met else None if None in met else True


def _trains(source: ScriptSource, call: ast.Call, known: dict[str, Any]) -> bool:
    """Whether a call of `train` is reached, and puts the network into training mode."""
    mode = call.args[0] if call.args else None
    return _stands(source, call, known) is True and (mode is None or _value(source, mode, known) is True)


def _value(source: ScriptSource, condition: ast.expr, known: dict[str, Any]) -> bool | None:
    """Whether a condition on known variables alone holds; None of any other."""
    names = {part.id for part in ast.walk(condition) if isinstance(part, ast.Name)}
    if not names or not names <= known.keys():
        return None
    if isinstance(condition, ast.Name) and known[condition.id] is None:  # `if optimizer:`
        return False
    value = source.value(condition, **known)
    return value if isinstance(value, bool) else None


def _switched_off(source: ScriptSource, scope: ast.AST, known: dict[str, Any]) -> str:
    """The condition by which gradients are turned off, or no backward pass is made, with these values."""
    calls = [part for part in ast.walk(scope) if isinstance(part, ast.Call)]
    switches = [part.args[0] for part in calls if called(part) == "set_grad_enabled" and part.args]
    off = [switch for switch in switches if _value(source, switch, known) is False]
    backward = [part for part in calls if called(part) == "backward"]
    if backward and all(_stands(source, part, known) is False for part in backward):
        off += [test for test, wanted in _conditions(source, backward[0]) if wanted]
    return ast.unparse(off[0]) if off else ""
