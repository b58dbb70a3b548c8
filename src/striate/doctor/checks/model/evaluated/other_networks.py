"""Networks beside the one that is trained: what a script evaluates in its place, or asks for targets."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import nn
from torch.optim import Optimizer

from striate.doctor.checks.model.evaluated.never_updated import is_harmless, networks_by_name, reads_of
from striate.doctor.checks.model.origins import are_untrained
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reached_objects import parameters_held, reached_optimizers
from striate.doctor.setup.script_source import Loop, ScriptSource, Site

_DEEPEST = 4
_SETTING = ("train", "eval", "parameters", "named_parameters", "state_dict", "zero_grad", "modules")


def untrained_helpers(evidence: Evidence) -> Iterator[tuple[str, str, int]]:
    """Names of networks with weights as initialized that the training loop runs beside the one that is trained and that
    the code around it leaves as they are, where they are run, and how many weights they have."""
    for name, thing, runs in _left_alone(evidence):
        weights = {key: parameter.numel() for key, parameter in thing.named_parameters() if parameter.ndim > 1}
        inside = next((run for run in runs if run.often == "batch"), None)
        if inside is not None and weights and are_untrained(thing, set(weights)):
            yield name, inside.where, sum(weights.values())


def evaluated_instead(evidence: Evidence) -> Iterator[tuple[str, str, str]]:
    """Of a script that runs another network in the loop around the training loop, and not the one that is trained, the
    names of both, and where."""
    source, model, scope = evidence.source, evidence.setup.model, _scope(evidence)
    own = [name for name, thing in networks_by_name(source) if thing is model]
    for name in own:
        for file, node in reads_of(source, name, scope) if scope is not None else ():
            outer = source.parent(node)
            setting = isinstance(outer, ast.Attribute) and outer.attr in _SETTING
            if source.often(node, file) != "batch" and not setting:
                return
    for name, _, runs in _left_alone(evidence) if own else ():
        site = next((run for run in runs if run.often == "epoch"), None)
        if site is not None:
            yield name, own[0], site.where
            return


def _left_alone(evidence: Evidence) -> Iterator[tuple[str, nn.Module, list[Site]]]:
    """Networks that have no parameter in common with the one that is trained, nor with an optimizer unless it stays
    frozen, and that the function of the training loop runs and does not change; with where it does."""
    source, scope, optimizer = evidence.source, _scope(evidence), evidence.setup.optimizer
    if scope is None or evidence.setup.rivals:
        return
    own = {id(parameter) for parameter in evidence.setup.model.parameters()}
    held = parameters_held(*reached_optimizers(source.names))
    held |= parameters_held(optimizer) if isinstance(optimizer, Optimizer) else set()
    switched = _is_switched(source)
    for name, thing in networks_by_name(source):
        parameters = {id(p): p for p in thing.parameters()}
        trained = {key for key in held & parameters.keys() if switched or parameters[key].requires_grad}
        if not parameters or trained or parameters.keys() & own:
            continue
        reads = list(reads_of(source, name, scope))
        if reads and name not in source.names:  # held by an object, whose methods may change it
            reads += reads_of(source, name)
        runs: list[Site] = []
        if reads and all(is_harmless(source, node, file, runs, _DEEPEST) for file, node in reads) and runs:
            yield name, thing, runs


def _is_switched(source: ScriptSource) -> bool:
    """Whether a loop of the script says which parameters require a gradient: what is frozen may be trained later."""
    for file, tree in source.trees.items():
        for node in ast.walk(tree):
            stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            if isinstance(node, ast.Attribute) and node.attr == ("requires_grad" if stored else "requires_grad_"):
                loop = next(iter(source.loops_of(node)), None)
                over = isinstance(loop, ast.For) and "parameters()" in ast.unparse(loop.iter)
                if source.often(loop if loop is not None and over else node, file) != "once":
                    return True
    return False


def _scope(evidence: Evidence) -> ast.AST | None:
    """The function, or else the file, that the training loop stands in."""
    file, first, _ = evidence.source.loop
    loops = (node for node in ast.walk(evidence.source.trees[file]) if isinstance(node, Loop) and node.lineno == first)
    loop = next(loops, None)
    return None if loop is None else evidence.source.scope_of(loop)
