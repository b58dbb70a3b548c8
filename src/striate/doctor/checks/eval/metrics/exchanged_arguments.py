"""Metrics of scikit-learn whose arguments `y_true` and `y_pred` an evaluation exchanges."""

from __future__ import annotations

import ast
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from striate.doctor.checks.eval.counts.findings import wrong_count
from striate.doctor.checks.eval.script_evaluation import MOST_STEPS, call_with, evaluation_calls, logged_metrics
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import main_tensor, parts
from striate.doctor.setup.reached_objects import written_by_user
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, receiver_of
from striate.records import Finding

_WHY = (
    "The order of the arguments matters: a recall becomes a precision, and an R² divides by the variance of the "
    "predictions."
)
_ORDER = ("y_true", "y_pred")
_LIBRARY = "sklearn.metrics"
_NEAR, _MOST = 1e-6, 64
"""Relative tolerance of equal values; most calls that are recorded."""


@dataclass(frozen=True)
class _Call:
    """A call of a metric of scikit-learn."""

    line: int
    """Line of the user's script."""
    function: Callable[..., Any]
    arguments: dict[str, Any]
    """Arguments by name."""


def arguments_exchanged(evidence: Evidence) -> Iterator[Finding]:
    """Calls of metrics with exchanged arguments, recorded while the script's evaluation runs again. Raises NoEvidence
    where no code of the script evaluates the network."""
    imports = map(ast.unparse, evidence.source.nodes(ast.Import, ast.ImportFrom))
    if (
        not any("sklearn" in line and "metrics" in line for line in imports)
        or not evidence.val.whole
        or not evidence.trial.rows
    ):
        return
    calls = list[_Call]()
    if evidence.source.library is not None:
        with _noting(calls):
            logged_metrics(evidence)
    else:
        model = evidence.trial.replica.model
        for _, function, arguments in evaluation_calls(evidence):
            evidence.clock.need(MOST_STEPS * len(evidence.val.raw) * evidence.step_seconds)
            with _noting(calls):
                call_with(function, arguments, {id(evidence.setup.model): model}, model)
    batches = [main_tensor(parts(batch)[1]) for batch in evidence.val.raw]
    targets = [part.detach().cpu().flatten().double() for part in batches if part is not None]
    known = [np.asarray(part) for part in (torch.cat(targets), *targets)] if targets else []
    for call in calls:
        true, predicted = (np.asarray(call.arguments[name]).flatten() for name in _ORDER)
        if any(_same(predicted, labels) and not _same(true, labels) for labels in known):
            yield from _finding_of(call)
            return


_UNEQUAL = (
    "r2_score", "explained_variance_score", "precision_score", "recall_score", "mean_absolute_percentage_error",
    "balanced_accuracy_score", "classification_report",
)  # fmt: skip
"""Metrics whose value changes when their arguments are exchanged."""


def exchanged_in_code(evidence: Evidence) -> Iterator[Finding]:
    """The same by code, for metrics that a script computes outside of a function that evaluates: the first argument is
    a network's output, also scaled, and the second is not."""
    source = evidence.source
    for site in source.calls(*_UNEQUAL):
        function, given = source.value(site.node.func), site.node.args
        if not str(getattr(function, "__module__", "")).startswith(_LIBRARY) or len(given) != 2:
            continue
        first, second = (_is_predicted(source, site.node, one) for one in given)
        if first and not second and not isinstance(given[1], ast.Call):
            name, true = called(site.node), ast.unparse(given[1])
            yield wrong_count(
                site.where,
                f"`{name}({ast.unparse(given[0])}, {true})` gets the predictions as its first argument, `y_true`, and "
                f"`{true}` as its second, `y_pred`",
                _WHY,
                f"pass the labels first: `{name}({true}, {ast.unparse(given[0])})`",
                "a metric of scikit-learn whose `y_true` is computed from the network's output and whose `y_pred` is "
                "not",
            )
            return


def _is_predicted(source: ScriptSource, line: ast.AST, node: ast.expr, depth: int = 3) -> bool:
    """Whether an expression is computed from a network's output by functions of elements, factors and offsets, also
    through variables and parameters."""
    if isinstance(node, ast.BinOp):
        return any(_is_predicted(source, line, side, depth) for side in (node.left, node.right))
    if source.is_prediction(node, source.predictions_in(source.scope_of(line))):
        return True
    if isinstance(node, ast.Call) and called(node) in _STILL_PREDICTIONS:
        inner = receiver_of(node)
        return inner is not None and _is_predicted(source, line, inner, depth)
    if not isinstance(node, ast.Name) or not depth:
        return False
    made = source.last_value(line, node.id)
    if made is not None:
        return _is_predicted(source, line, made, depth - 1)
    function = source.function_of(line)
    if function is None:
        return False
    calls = [site.node for site in source.calls_of(function)]
    passed = [(call, value) for call in calls for name, value in source.arguments(function, call) if name == node.id]
    return bool(passed) and all(_is_predicted(source, call, value, depth - 1) for call, value in passed)


_STILL_PREDICTIONS = ("argmax", "numpy", "cpu", "round", "detach", "tolist", "squeeze", "flatten", "reshape", "view")


def _finding_of(call: _Call) -> Iterator[Finding]:
    """The finding for a call, if the order of its arguments changes the result."""
    turned = dict(zip(_ORDER, (call.arguments[name] for name in reversed(_ORDER)), strict=True))
    with suppress(Exception), warnings.catch_warnings():  # the metric may not take these values
        warnings.simplefilter("ignore")
        value, right = (float(call.function(**call.arguments | one)) for one in ({}, turned))
        if not np.isclose(value, right, rtol=_NEAR, atol=0, equal_nan=True):
            name = call.function.__name__
            yield wrong_count(
                f"line {call.line}",
                f"`{name}` gets the predictions as its first argument, `y_true`, and the labels of validation as its "
                f"second, `y_pred`: it gives {value:.4g} in the trial, and {right:.4g} with both in order",
                _WHY,
                f"pass the labels first: `{name}(labels, predictions)`",
                "a metric of scikit-learn whose `y_pred` are the labels and whose `y_true` are not, and whose value "
                "changes when these are exchanged",
            )


@contextmanager
def _noting(calls: list[_Call]) -> Iterator[None]:
    def note(frame: types.FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        named = event == "call" and code.co_varnames[:2] == _ORDER and len(calls) < _MOST
        if named and str(frame.f_globals.get("__name__")).startswith(_LIBRARY):
            function = getattr(sys.modules[_LIBRARY], code.co_name, None)
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            caller: types.FrameType | None = frame
            while caller is not None and not written_by_user(caller.f_globals.get("__name__")):
                caller = caller.f_back
            if callable(function) and caller is not None:
                calls.append(_Call(caller.f_lineno, function, {name: frame.f_locals[name] for name in names}))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


def _same(values: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> bool:
    with suppress(Exception):  # names of classes, for example
        return values.shape == labels.shape and bool(np.allclose(values.astype(np.float64), labels, rtol=_NEAR))
    return False
