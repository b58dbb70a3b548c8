"""Evaluations that pass the network unprocessed batches."""

from __future__ import annotations

import ast

from torch import nn

from striate.doctor.checks.eval.evaluation_loops import evaluation_loops
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource, Site
from striate.doctor.setup.syntax import assigned, called, last_name, names_in, nodes_in, receiver_of

_AS_IT_IS = ("to", "float", "double", "half", "bfloat16", "cuda", "cpu", "contiguous", "clone", "detach")


def unprepared_call(evidence: Evidence) -> Site | None:
    """The first call in a loop over validation that passes the network, or a copy of it, an unprocessed batch (apart
    from its dtype and device); None if there is none."""
    source, model = evidence.source, evidence.setup.model
    for loop, loader, known in evaluation_loops(source):
        if loader is not evidence.setup.val or _goes_through_own(source, loop):
            continue
        as_read = _as_read(loop)
        for call in (node for node in nodes_in(loop, ast.Call) if len(node.args) == 1):
            if not source.without_gradient(call):
                continue
            network = source.value(call.func, **known)
            if isinstance(network, nn.Module) and _is_one_of(model, network) and _is_as_read(call.args[0], as_read):
                return source.site(call)
    return None


def _goes_through_own(source: ScriptSource, loop: ast.For) -> bool:
    """Whether a function of the script wraps the loader; it may preprocess batches."""
    return any(source.functions_of(part) for part in nodes_in(loop.iter, ast.Call))


def _is_one_of(model: nn.Module, network: nn.Module) -> bool:
    """Whether a network is the trained one, or a copy or an average of it."""
    return network is model or (
        type(network) is type(model)
        and [(name, p.shape) for name, p in network.named_parameters()]
        == [(name, p.shape) for name, p in model.named_parameters()]
    )


def _as_read(loop: ast.For) -> set[str]:
    """Variables that hold unprocessed parts of a batch everywhere in the loop."""
    names = names_in(loop.target)
    given = [(target, value) for node in ast.walk(loop) for target, value in assigned(node)]
    names |= {name for target, _ in given for name in names_in(target)}
    changed = {
        last_name(owner)
        for node in nodes_in(loop, ast.Call)
        if called(node).endswith("_") and (owner := receiver_of(node)) is not None
    }
    changed |= {last_name(node.target) for node in nodes_in(loop, ast.AugAssign)}
    before = None
    names -= changed
    while before != names:  # until all that depend on other variables are removed
        before = set(names)
        for target, value in given:
            for part in nodes_in(target, ast.Name):
                if not _is_as_read(value, names):
                    names.discard(part.id)
    return names


def _is_as_read(node: ast.expr, names: set[str]) -> bool:
    """Whether an expression is one of these variables or a part of it, perhaps with another dtype or device."""
    while True:
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            node = node.value
        elif isinstance(node, ast.Call) and called(node) in _AS_IT_IS and isinstance(node.func, ast.Attribute):
            node = node.func.value
        else:
            return isinstance(node, ast.Name) and node.id in names
