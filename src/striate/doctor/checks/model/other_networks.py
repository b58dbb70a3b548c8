"""Networks beside the one that is trained: what a script evaluates in its place, or asks for targets."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from torch import nn
from torch.optim import Optimizer

from striate.doctor.checks.model.never_updated import is_harmless, networks_by_name, reads_of
from striate.doctor.checks.model.origins import are_untrained
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reached_objects import parameters_held, reached_optimizers
from striate.doctor.setup.script_source import Loop, Site

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
    """Networks that have no parameter in common with the one that is trained or with an optimizer, and that the
    function of the training loop runs and does not change; with where it does."""
    source, scope, optimizer = evidence.source, _scope(evidence), evidence.setup.optimizer
    if scope is None or evidence.setup.rivals:
        return
    own = {id(parameter) for parameter in evidence.setup.model.parameters()}
    own |= parameters_held(*reached_optimizers(source.names))
    own |= parameters_held(optimizer) if isinstance(optimizer, Optimizer) else set()
    for name, thing in networks_by_name(source):
        parameters = {id(parameter) for parameter in thing.parameters()}
        if not parameters or parameters & own:
            continue
        held = name not in source.names  # by an object, whose methods may change it
        reads = list(reads_of(source, name, scope))
        reads += list(reads_of(source, name)) if reads and held else []
        runs: list[Site] = []
        if reads and all(is_harmless(source, node, file, runs, _DEEPEST) for file, node in reads) and runs:
            yield name, thing, runs


def _scope(evidence: Evidence) -> ast.AST | None:
    """The function, or else the file, that the training loop stands in."""
    file, first, _ = evidence.source.loop
    loops = (node for node in ast.walk(evidence.source.trees[file]) if isinstance(node, Loop) and node.lineno == first)
    loop = next(loops, None)
    return None if loop is None else evidence.source.scope_of(loop)
