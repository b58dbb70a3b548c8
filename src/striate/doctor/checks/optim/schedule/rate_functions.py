"""Rates that a function of the script sets for each epoch, as `adjust_learning_rate(optimizer, epoch, args)`, or
returns for each step, as `group["lr"] = get_lr(it)`."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from io import StringIO
from itertools import islice
from types import SimpleNamespace
from typing import Any, cast

from torch.optim import Optimizer

from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, nodes_in

_MOST_EPOCHS = 1000
_MOST_STEPS = 100_000
_SAMPLES = 97
_DEEPEST = 3


def rates_by_function(source: ScriptSource, optimizer: Optimizer) -> Iterator[list[float]]:
    """The rates of the first parameter group in all epochs of the script's loop, one list for each function that sets
    them. The function is called with the script's arguments, but with a stand-in for the optimizer, which has groups
    without parameters."""
    for name in _setting_rates(source):
        for site in source.calls(name):
            loop = next(source.enclosing(site.node, ast.For), None)
            if site.often != "epoch" or loop is None or not isinstance(loop.target, ast.Name):
                continue
            epochs, function = source.value(loop.iter), source.value(site.node.func)
            if isinstance(epochs, range) and 1 < len(epochs) <= _MOST_EPOCHS and callable(function):
                with suppress(Exception):  # the user's function may not accept the stand-in
                    yield _rates(source, optimizer, function, site.node, loop.target.id, epochs)


def rates_of_steps(source: ScriptSource, planned: int) -> Iterator[list[float]]:
    """The rates of all steps of the script's loops, one list for each function that returns the rate of a step. The
    function is called for each step of `for it in range(…)`, of a counter, or of batches counted within epochs."""
    for node in source.nodes(ast.Assign):
        if not _writes_rate(node) or source.often(node) != "batch":
            continue
        rates = numbers_of_steps(source, node, node.value, planned)
        if len(rates) > 1:
            yield rates


def numbers_of_steps(
    source: ScriptSource, node: ast.AST, value: ast.expr, planned: int = 0, *, sampled: bool = False
) -> list[float]:
    """The values that a function of the script returns in the steps of the loops around a node; with `sampled`, in some
    steps over the full loop. Empty where they are unknown, or where the function calls anything that could have side
    effects."""
    expression = _expanded(source, node, value)
    functions = source.functions_of(expression) if isinstance(expression, ast.Call) else []
    if len(functions) == 1 and isinstance(functions[0], ast.FunctionDef) and not _may_have_effects(functions[0]):
        with suppress(Exception):  # the user's function may not accept the arguments
            return [float(number) for number in _by_step(source, node, expression, planned, sampled)]
    return []


def _expanded(source: ScriptSource, node: ast.AST, value: ast.expr, depth: int = 0) -> ast.expr:
    """An expression in which variables that the loops around a node assign are replaced by the assigned expressions."""
    loops, counted = source.loops_of(node), _counters(source, node)

    class Expand(ast.NodeTransformer):
        def visit_Name(self, name: ast.Name) -> ast.expr:
            last = source.last_value(node, name.id) if depth < _DEEPEST and name.id not in counted else None
            within = last is not None and any(part is last for part in nodes_in(loops))
            return _expanded(source, node, last, depth + 1) if last is not None and within else name

    return cast(ast.expr, Expand().visit(copy.deepcopy(value)))


def _counters(source: ScriptSource, node: ast.AST) -> dict[str, ast.AST]:
    """Variables that count passes of the loops around a node, each with its loop."""
    counters: dict[str, ast.AST] = {}
    for loop in source.loops_of(node):
        if isinstance(loop, ast.For):
            enumerated = called(loop.iter) == "enumerate" and isinstance(loop.target, ast.Tuple)
            target = loop.target.elts[0] if enumerated and isinstance(loop.target, ast.Tuple) else loop.target
            if isinstance(target, ast.Name):
                counters.setdefault(target.id, loop)
        for part in loop.body:
            by_one = (
                isinstance(part, ast.AugAssign) and isinstance(part.op, ast.Add) and source.is_number(part.value, 1)
            )
            if by_one and isinstance(part, ast.AugAssign) and isinstance(part.target, ast.Name):
                counters.setdefault(part.target.id, loop)
    return counters


def _by_step(source: ScriptSource, node: ast.AST, expression: ast.expr, planned: int, sampled: bool) -> Iterator[Any]:
    """The value of an expression in each step of the loops around a node."""
    counters = _counters(source, node)
    used = [part.id for part in nodes_in(expression, ast.Name) if part.id in counters]
    calls = [part for part in nodes_in(expression, ast.Call) if part is not expression]
    if not used or any(called(call) not in ("len", "int", "float", "min", "max") for call in calls):
        return
    code = compile(ast.fix_missing_locations(ast.Expression(expression)), "<striate>", "eval")
    for known in _steps(source, {name: counters[name] for name in used}, planned, sampled):
        yield eval(code, {**source.names, **known})


def _steps(source: ScriptSource, counters: dict[str, ast.AST], planned: int, sampled: bool) -> Iterator[dict[str, int]]:
    """The values of the counters in each step: of one counter of all steps, or of counters of epochs and batches."""
    loops = {name: loop for name, loop in counters.items() if isinstance(loop, ast.For)}
    inner = [name for name, loop in loops.items() if called(loop.iter) == "enumerate"]
    outer = [name for name in loops if name not in inner]
    if len(counters) == 1 and not inner:
        name = next(iter(counters))
        loop = counters[name]
        counted = source.value(loop.iter) if isinstance(loop, ast.For) and _is_target(loop, name) else None
        known = source.value(ast.Name(name, ast.Load()))
        first = known if isinstance(known, int) else 0
        steps = counted if isinstance(counted, range) else range(first, first + planned)
        steps = steps[:: 1 + len(steps) // _SAMPLES] if sampled else steps[:_MOST_STEPS]
        yield from ({name: step} for step in steps)
    elif len(counters) == 2 and len(inner) == len(outer) == 1:
        epochs = source.value(loops[outer[0]].iter)
        if isinstance(epochs, range) and len(epochs):
            batches = range(max(1, planned // len(epochs)))
            every = ({outer[0]: epoch, inner[0]: batch} for epoch in epochs for batch in batches)
            yield from islice(every, _MOST_STEPS)


def _is_target(loop: ast.For, name: str) -> bool:
    return isinstance(loop.target, ast.Name) and loop.target.id == name


def _setting_rates(source: ScriptSource) -> set[str]:
    """Names of functions of the script that set `group["lr"]` and call nothing that could have other effects."""
    return {
        node.name
        for node in source.nodes(ast.FunctionDef)
        if any(map(_writes_rate, ast.walk(node))) and not _may_have_effects(node)
    }


def _writes_rate(node: ast.AST) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
    return any(
        isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant) and target.slice.value == "lr"
        for target in targets
    )


_PLAIN = {"print", "min", "max", "len", "range", "enumerate", "zip", "sum", "int", "float", "abs", "round", "pow"}
_OF_MATH = {"cos", "sin", "exp", "log", "pow", "sqrt", "floor", "ceil"}


def _may_have_effects(function: ast.FunctionDef) -> bool:
    """Whether a function calls anything but plain built-in and mathematical functions."""
    calls = [node.func for node in nodes_in(function, ast.Call)]
    return any(
        call.id not in _PLAIN
        if isinstance(call, ast.Name)
        else not isinstance(call, ast.Attribute) or call.attr not in _OF_MATH
        for call in calls
    )


def _rates(
    source: ScriptSource, optimizer: Optimizer, function: Any, call: ast.Call, name: str, epochs: Sequence[int]
) -> list[float]:
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    stand_in = SimpleNamespace(param_groups=copy.deepcopy(groups))
    rates = []
    for epoch in epochs:
        known = {name: epoch}

        def value_of(part: ast.expr, known: dict[str, int] = known) -> Any:
            value = source.value(part, **known)
            return stand_in if value is optimizer else value

        with redirect_stdout(StringIO()):
            function(*map(value_of, call.args), **{str(word.arg): value_of(word.value) for word in call.keywords})
        rates.append(float(stand_in.param_groups[0]["lr"]))
    return rates
