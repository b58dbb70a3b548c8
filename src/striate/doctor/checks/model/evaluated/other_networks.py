"""Networks other than the trained one, which a script evaluates in its place, or runs for targets or features."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import nn
from torch.optim import Optimizer

from striate.doctor.checks.model.evaluated.never_updated import is_harmless, networks_by_name, reads_of
from striate.doctor.checks.model.origins import are_untrained
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reached_objects import parameters_held, reached_optimizers
from striate.doctor.setup.script_source import ScriptSource, Site

_DEEPEST = 4
_SETTING = ("train", "eval", "parameters", "named_parameters", "state_dict", "zero_grad", "modules")


def untrained_helpers(evidence: Evidence) -> Iterator[tuple[str, str, int]]:
    """Other networks that the training loop runs, that look untrained, and that the code around the loop does not
    change: name, place where it is run, and number of weights of each."""
    for name, thing, runs in _unchanged_networks(evidence):
        weights = {key: parameter.numel() for key, parameter in thing.named_parameters() if parameter.ndim > 1}
        inside = next((run for run in runs if run.often == "batch"), None)
        if inside is not None and weights and are_untrained(thing, set(weights)):
            yield name, inside.where, sum(weights.values())


def evaluated_instead(evidence: Evidence) -> Iterator[tuple[str, str, str]]:
    """Another network that runs in the loop around the training loop, where the trained one does not: its name, the
    name of the trained one, and the place."""
    source, model, scope = evidence.source, evidence.setup.model, _scope(evidence)
    own = [name for name, thing in networks_by_name(source) if thing is model]
    for name in own:
        for node in reads_of(source, name, scope) if scope is not None else ():
            outer = source.parent(node)
            setting = isinstance(outer, ast.Attribute) and outer.attr in _SETTING
            if source.often(node) != "batch" and not setting:
                return
    for name, _, runs in _unchanged_networks(evidence) if own else ():
        site = next((run for run in runs if run.often == "epoch"), None)
        if site is not None:
            yield name, own[0], site.where
            return


def _unchanged_networks(evidence: Evidence) -> Iterator[tuple[str, nn.Module, list[Site]]]:
    """Networks that the function of the training loop runs and does not change, each with the calls that run it.

    They share no parameter with the trained network, and none with an optimizer, except for parameters that stay
    frozen."""
    source, scope, optimizer = evidence.source, _scope(evidence), evidence.setup.optimizer
    if scope is None or evidence.setup.rivals:
        return
    own = {id(parameter) for parameter in evidence.setup.model.parameters()}
    held = parameters_held(*reached_optimizers(source.names))
    held |= parameters_held(optimizer) if isinstance(optimizer, Optimizer) else set()
    switched = _switches_gradients(source)
    for name, thing in networks_by_name(source):
        parameters = {id(p): p for p in thing.parameters()}
        trained = {key for key in held & parameters.keys() if switched or parameters[key].requires_grad}
        if not parameters or trained or parameters.keys() & own:
            continue
        reads = list(reads_of(source, name, scope))
        if reads and name not in source.names:  # an attribute of an object, whose methods may change the network
            reads += reads_of(source, name)
        runs: list[Site] = []
        if reads and all(is_harmless(source, node, runs, _DEEPEST) for node in reads) and runs:
            yield name, thing, runs


def _switches_gradients(source: ScriptSource) -> bool:
    """Whether the script sets `requires_grad` repeatedly, so that frozen parameters may be trained later."""
    for node in source.nodes():
        stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if isinstance(node, ast.Attribute) and node.attr == ("requires_grad" if stored else "requires_grad_"):
            loop = next(iter(source.loops_of(node)), None)
            over = isinstance(loop, ast.For) and "parameters()" in ast.unparse(loop.iter)
            if source.often(loop if loop is not None and over else node) != "once":
                return True
    return False


def _scope(evidence: Evidence) -> ast.AST | None:
    """The function that contains the training loop, or else the file; None where the loop is unknown."""
    loop = evidence.source.training_loop
    return None if loop is None else evidence.source.scope_of(loop)
