"""Decibels, `10 * log10(peak ** 2 / error)`, with a peak of 255 for images up to 1, or with a factor of 20 for squared
errors."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from contextlib import suppress

import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import leaves
from striate.doctor.setup.script_source import Function, ScriptSource, Site
from striate.doctor.setup.syntax import called, defaults_of, is_operation, names_in, nodes_in

_OF_BYTES = (255, 255**2)
_OF_SHARES = 1.01
"""The largest value of images between 0 and 1, with what rounding adds."""
_SQUARED = re.compile(r"(?<!r)mse|mean_squared_error| - .*(square\(|pow\(2\)|\*\* 2\b)", re.IGNORECASE)
_ROOT = re.compile(r"sqrt|norm|root|rmse|0\.5", re.IGNORECASE)
_TEN_TIMES, _ROUNDED = (0.1, 0.01), 0.01
"""Two squared errors that differ by 10 dB."""
_PURE = ("log10", "log", "clamp", "clip", "max", "maximum", "tensor", "float", "item", "mean", "pow", "square")
"""Functions that may be called twice."""


def peaks_of_bytes(evidence: Evidence) -> Iterator[ast.expr]:
    """Expressions in decibels with a peak of 255, where the images of validation are at most 1."""
    try:
        shown = [image for batch in evidence.val.raw for _, image in leaves(batch) if image.ndim > 2]
    except NoEvidence:  # no validation
        return
    if not shown or not all(image.is_floating_point() and float(image.max()) <= _OF_SHARES for image in shown):
        return
    source = evidence.source
    for site in source.calls("log10"):
        formula = _formula_around(source, site)
        function = source.function_of(site.node)
        named = names_in(formula)
        peaks = [part for part in [*ast.walk(formula), *_defaults(function, named)] if _is_peak(part)]
        callers = source.calls_of(function) if function is not None else []
        scopes = [source.scope_of(place.node) for place in (site, *callers)]
        passes_peak = any(len([*call.node.args, *call.node.keywords]) > 2 for call in callers)
        if peaks and not passes_peak and not any(_in_bytes(part) for part in nodes_in(scopes)):
            yield formula


def doubled(source: ScriptSource) -> Iterator[ast.expr]:
    """Formulas of decibels that rise by 20 when a squared error falls to a tenth."""
    for site in source.calls("log10"):
        formula = _formula_around(source, site)
        errors = [part for part in ast.walk(formula) if isinstance(part, ast.Name | ast.Call) and part is not site.node]
        error = next((part for part in errors if _is_squared(source, part)), None)
        if error is not None and not _ROOT.search(ast.unparse(formula)):
            one, other = (_value(source, formula, error, number) for number in _TEN_TIMES)
            if math.isclose(abs(other - one), 20, abs_tol=_ROUNDED):
                yield formula


def _is_squared(source: ScriptSource, error: ast.Name | ast.Call) -> bool:
    """Whether an expression is a squared error, by its name, its last assignment, or the argument of a call."""
    made = [error, source.last_value(error, ast.unparse(error))]
    function = source.function_of(error)
    if made[1] is None and function is not None:
        calls = [site.node for site in source.calls_of(function)]
        arguments = (pair for call in calls for pair in source.arguments(function, call))
        made += [value for name, value in arguments if name == ast.unparse(error)]
    texts = [ast.unparse(part) for part in made if part is not None]
    return any(map(_SQUARED.search, texts)) and not any(map(_ROOT.search, texts))


def _value(source: ScriptSource, formula: ast.expr, error: ast.expr, number: float) -> float:
    """The value of a formula with this number as the error, and 1 for unknown variables; NaN where it fails."""
    name = error.id if isinstance(error, ast.Name) else "error_"
    text = ast.unparse(formula).replace(ast.unparse(error), name)
    unknown = {part.id: 1.0 for part in nodes_in(formula, ast.Name)}
    if any(called(part) not in _PURE for part in nodes_in(ast.parse(text), ast.Call)):
        return math.nan
    with suppress(Exception):  # of the user's formula
        return float(eval(text, {**unknown, **source.names, name: torch.tensor(number, dtype=torch.float64)}))
    return math.nan


def _formula_around(source: ScriptSource, site: Site) -> ast.expr:
    """The formula around a logarithm, such as `20 * log10(255) - 10 * log10(error)` around either of its two."""
    formula: ast.expr = site.node
    while isinstance(outer := source.parent(formula), ast.BinOp | ast.UnaryOp):
        formula = outer
    return formula


def _defaults(function: Function | None, named: set[str]) -> Iterator[ast.expr]:
    """The default values of the named parameters of a function."""
    if function is not None:
        yield from (default for name, default in defaults_of(function).items() if name in named)


def _is_peak(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value in _OF_BYTES


def _in_bytes(node: ast.AST) -> bool:
    """Whether a node scales images to bytes: `images * 255`, `.mul(255)`, `.byte()`."""
    if is_operation(node, ast.Mult):
        return _is_peak(node.left) != _is_peak(node.right)
    return called(node) in ("mul", "mul_", "multiply", "byte", "img_as_ubyte")
