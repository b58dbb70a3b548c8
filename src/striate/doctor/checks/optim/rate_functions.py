"""Rates that a function of the script's own sets for each epoch, as `adjust_learning_rate(optimizer, epoch, args)`."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout, suppress
from io import StringIO
from types import SimpleNamespace
from typing import Any

from torch.optim import Optimizer

from striate.doctor.setup.script_source import ScriptSource

_MOST_EPOCHS = 1000


def rates_by_function(source: ScriptSource, optimizer: Optimizer) -> Iterator[list[float]]:
    """The rates of the first group in all epochs of the script's loop, by each function that sets them there: it is
    called with what the script gives it, but for an optimizer of groups without parameters."""
    for name in _setting_rates(source):
        for site in source.calls(name):
            loop = next((part for part in source.around(site.node) if isinstance(part, ast.For)), None)
            if site.often != "epoch" or loop is None or not isinstance(loop.target, ast.Name):
                continue
            epochs, function = source.value(loop.iter), source.value(site.node.func)
            if isinstance(epochs, range) and 1 < len(epochs) <= _MOST_EPOCHS and callable(function):
                with suppress(Exception):  # the user's function, given something else than it expects
                    yield _rates(source, optimizer, function, site.node, loop.target.id, epochs)


def _setting_rates(source: ScriptSource) -> set[str]:
    """Names of functions of the script that write `group["lr"]` and call nothing that could do more."""
    return {
        node.name
        for tree in source.trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any(map(_writes_rate, ast.walk(node))) and not _does_more(node)
    }


def _writes_rate(node: ast.AST) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
    return any(
        isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant) and target.slice.value == "lr"
        for target in targets
    )


_PLAIN = {"print", "min", "max", "len", "range", "enumerate", "zip", "sum", "int", "float", "abs", "round", "pow"}
_OF_MATH = {"cos", "sin", "exp", "log", "pow", "sqrt", "floor", "ceil"}


def _does_more(function: ast.FunctionDef) -> bool:
    calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
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

        def given(part: ast.expr, known: dict[str, int] = known) -> Any:
            value = source.value(part, **known)
            return stand_in if value is optimizer else value

        with redirect_stdout(StringIO()):
            function(*map(given, call.args), **{str(word.arg): given(word.value) for word in call.keywords})
        rates.append(float(stand_in.param_groups[0]["lr"]))
    return rates
