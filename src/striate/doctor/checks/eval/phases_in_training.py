"""Functions that train or evaluate as an argument says, but leave the network in training mode when they evaluate."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from striate.doctor.setup.script_source import Function, ScriptSource, Site
from striate.doctor.setup.syntax import called, defaults_of, names_in, nodes_in

_EVALUATION = re.compile(r"(?<![a-z])(val|valid|validation|test|dev|eval|evaluation|holdout)(?![a-z])")


class PhaseInTraining(NamedTuple):
    """An evaluation, by a call or in a phase of a loop, that leaves the network in training mode."""

    line: int
    """Where the mode is set."""
    call: str
    """Source of the call, or the phase as an assignment."""
    switch: str
    """The condition that turns gradients off."""


def phases_in_training(source: ScriptSource, modes: list[Site]) -> Iterator[PhaseInTraining]:
    """Calls that evaluate by a function that also trains, such as `run("test", loader)`, and likewise phases of a loop:
    they turn gradients off, or make no backward pass, but leave the network in training mode. `modes`: all calls that
    set the mode of the network."""
    for site in modes:
        scope, function = source.scope_of(site.node), source.function_of(site.node)
        if called(site.node) != "train":
            continue
        others = [other.node for other in modes if other.node is not site.node and source.scope_of(other.node) is scope]
        calls = list(_calls(source, function)) if function is not None else []
        for call, known in (*calls, *_passes(source, site.node)):
            switch = _switched_off(source, scope, known)
            trains = switch and _trains(source, site.node, known) and _EVALUATION.search(call)
            if trains and not any(_is_reached(source, other, known) is not False for other in others):
                yield PhaseInTraining(site.node.lineno, call, switch)


def _calls(source: ScriptSource, function: Function) -> Iterator[tuple[str, dict[str, Any]]]:
    """Calls of a function, each with the parameters whose values are known, from arguments or defaults."""
    defaults = defaults_of(function)
    for site in source.calls_of(function):
        if any(isinstance(part, ast.Starred) for part in site.node.args):
            continue
        found = defaults | dict(source.arguments(function, site.node))
        known = {name: value for name, written in found.items() if (value := _known_value(source, written)) is not ...}
        yield site.text, known


def _known_value(source: ScriptSource, written: ast.expr) -> Any:
    """The value of an argument; an ellipsis where it is unknown."""
    if isinstance(written, ast.Constant):
        return written.value
    value = source.value(written)
    return ... if value is None else value


def _passes(source: ScriptSource, node: ast.AST) -> Iterator[tuple[str, dict[str, Any]]]:
    """The phases of loops around a node, `for phase in ["train", "val"]`: each as text and as a known variable."""
    for loop in source.loops_of(node):
        phases = loop.iter.elts if isinstance(loop, ast.For) and isinstance(loop.iter, ast.List | ast.Tuple) else []
        for phase in phases:
            if isinstance(loop, ast.For) and isinstance(loop.target, ast.Name) and isinstance(phase, ast.Constant):
                yield f"{loop.target.id} = {phase.value!r}", {loop.target.id: phase.value}


def _conditions(source: ScriptSource, node: ast.AST) -> Iterator[tuple[ast.expr, bool]]:
    """The conditions around a node in its function, each with the value that it must have."""
    inside: ast.AST = node
    for part in source.enclosing(node):
        if isinstance(part, Function):
            return
        if isinstance(part, ast.If) and inside is not part.test:
            yield part.test, inside in part.body
        inside = part


def _is_reached(source: ScriptSource, node: ast.AST, known: dict[str, Any]) -> bool | None:
    """Whether a node is reached with these values; None where that is unknown."""
    met = [
        None if (value := _value(source, test, known)) is None else value is needed
        for test, needed in _conditions(source, node)
    ]
    return False if False in met else None if None in met else True


def _trains(source: ScriptSource, call: ast.Call, known: dict[str, Any]) -> bool:
    """Whether a call of `train` is reached, and puts the network into training mode."""
    mode = call.args[0] if call.args else None
    return _is_reached(source, call, known) is True and (mode is None or _value(source, mode, known) is True)


def _value(source: ScriptSource, condition: ast.expr, known: dict[str, Any]) -> bool | None:
    """Whether a condition holds; None where it depends on unknown variables."""
    names = names_in(condition)
    if not names or not names <= known.keys():
        return None
    if isinstance(condition, ast.Name) and known[condition.id] is None:  # `if optimizer:`
        return False
    value = source.value(condition, **known)
    return value if isinstance(value, bool) else None


def _switched_off(source: ScriptSource, scope: ast.AST, known: dict[str, Any]) -> str:
    """The condition that, with these values, turns gradients off or skips the backward pass; empty where there is
    none."""
    calls = list(nodes_in(scope, ast.Call))
    switches = [part.args[0] for part in calls if called(part) == "set_grad_enabled" and part.args]
    off = [switch for switch in switches if _value(source, switch, known) is False]
    backward = [part for part in calls if called(part) == "backward"]
    if backward and all(_is_reached(source, part, known) is False for part in backward):
        off += [test for test, needed in _conditions(source, backward[0]) if needed]
    return ast.unparse(off[0]) if off else ""
