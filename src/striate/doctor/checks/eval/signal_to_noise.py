"""Decibels, `10 * log10(peak ** 2 / error)`, with the peak of bytes for images that have none above 1."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.batch import leaves
from striate.doctor.setup.script_source import Function, ScriptSource, Site, called

_OF_BYTES = (255, 255**2)
_OF_SHARES = 1.01
"""The largest value of images between 0 and 1, with what rounding adds."""


def peaks_of_bytes(evidence: Evidence) -> Iterator[ast.expr]:
    """Expressions in decibels that hold images up to 1 against a peak of 255."""
    try:
        shown = [image for batch in evidence.val.raw for _, image in leaves(batch) if image.ndim > 2]
    except NoEvidence:  # no validation
        return
    if not shown or not all(image.is_floating_point() and float(image.max()) <= _OF_SHARES for image in shown):
        return
    source = evidence.source
    for site in source.calls("log10"):
        whole = _whole(source, site)
        function = source.function_of(site.node)
        named = {part.id for part in ast.walk(whole) if isinstance(part, ast.Name)}
        peaks = [part for part in [*ast.walk(whole), *_defaults(function, named)] if _is_peak(part)]
        callers = source.calls_of(function) if function is not None else []
        scopes = [source.scope_of(place.node) for place in (site, *callers)]
        given = any(len([*call.node.args, *call.node.keywords]) > 2 for call in callers)
        if peaks and not given and not any(_in_bytes(part) for scope in scopes for part in ast.walk(scope)):
            yield whole


def _whole(source: ScriptSource, site: Site) -> ast.expr:
    """The formula around a logarithm: `20 * log10(255) - 10 * log10(error)` has two."""
    whole: ast.expr = site.node
    while isinstance(outer := source.parent(whole), ast.BinOp | ast.UnaryOp):
        whole = outer
    return whole


def _defaults(function: Function | None, named: set[str]) -> Iterator[ast.expr]:
    """What parameters are where nothing is given for them."""
    if function is not None:
        parameters = [*function.args.posonlyargs, *function.args.args]
        with_default = parameters[len(parameters) - len(function.args.defaults) :]
        pairs = [*zip(with_default, function.args.defaults, strict=True)]
        pairs += [(p, d) for p, d in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True) if d]
        yield from (default for parameter, default in pairs if parameter.arg in named)


def _is_peak(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value in _OF_BYTES


def _in_bytes(node: ast.AST) -> bool:
    """Whether images are brought to bytes: `images * 255`, `.mul(255)`, `.byte()`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return _is_peak(node.left) != _is_peak(node.right)
    return called(node) in ("mul", "mul_", "multiply", "byte", "img_as_ubyte")
