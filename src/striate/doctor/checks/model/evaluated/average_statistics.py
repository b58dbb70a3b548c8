"""Averages of the weights whose batch norms keep their initial statistics."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.model.evaluated.averages_in_code import tensors_named
from striate.doctor.checks.model.evaluated.code import CODE
from striate.doctor.checks.model.evaluated.copies import CopyStates, copies_reached
from striate.doctor.checks.model.evaluated.never_updated import in_idle_function
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Trial
from striate.doctor.setup.reached_objects import reached_objects
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import assigned, called, last_name, nodes_in, receiver_of
from striate.records import Finding
from striate.wording import several

_WITH_BUFFERS = (
    "average the buffers too, or copy them: `for a, b in zip(ema.buffers(), model.buffers()): a.copy_(b)`; with "
    "`AveragedModel`, `use_buffers=True`, or `torch.optim.swa_utils.update_bn(loader, ema)` before evaluation"
)
_OF_BUFFERS = ("buffers", "named_buffers", "update_bn", "running_mean", "reset_running_stats", "use_buffers")
_IN_PLACE = ("lerp_", "mul_", "copy_", "add_")


def without_buffers(evidence: Evidence, trial: Trial, copies: CopyStates) -> Iterator[Finding]:
    """Averages of the weights whose batch norms keep their initial statistics in a trial. `copies`: the averages, each
    with its running means before the trial."""
    source = evidence.setup.source
    if source is None or source.calls("update_bn"):
        return
    own = means(trial.replica.model)
    for thing, before in copies:
        if isinstance(thing, dict) and not source.calls("load_state_dict", "functional_call"):
            continue  # perhaps only its weights are used
        now = means(thing)
        stale = [name for name, mean in now.items() if torch.equal(mean, before[name])]
        if not stale or len(stale) < len(now) or any(torch.equal(own[n], now[n]) for n in stale if n in own):
            continue
        yield Finding(
            code=CODE,
            severity="warning",
            where="the training step",
            measured=f"an average of the network's weights ({type(thing).__name__}) follows them, but the running "
            f"means and variances of its {several(len(stale), 'batch norm')} are unchanged after "
            f"{several(len(trial.rows), 'step')}",
            threshold="running means of an average that stay, while those of the network change",
            why="In evaluation its batch norms use the statistics of an untrained network.",
            remedy=_WITH_BUFFERS,
        )
        return


def created_later_without_buffers(evidence: Evidence) -> Iterator[Finding]:
    """The same for averages that are created after the first steps, according to their code."""
    setup, began, ended = evidence.setup, means(evidence.fresh.model), means(evidence.trial.replica.model)
    if all(torch.equal(ended[name], mean) for name, mean in began.items()):
        return
    originals = {id(thing) for thing in reached_objects((setup.step,)) if isinstance(thing, nn.Module)}
    if any(copies_reached(evidence.fresh, originals)):
        return  # `without_buffers` examines them in a trial
    for name, where in _averages_of_weights_alone(evidence.source, setup.model):
        yield Finding(
            code=CODE,
            severity="warning",
            where=where,
            measured=f"`{name}` follows the parameters of the network, and nothing gives it the running means and "
            f"variances of its {several(len(began), 'batch norm')}, which change in training",
            threshold="a copy in evaluation mode that follows the parameters of a network, and nothing but these",
            why="In evaluation its batch norms use the statistics of the network from which it was copied.",
            remedy=_WITH_BUFFERS,
        )
        return


def means(thing: nn.Module | dict[Any, Any]) -> dict[str, torch.Tensor]:
    """The running means of batch norms, by their names without the prefix `module.`."""
    pairs = thing.named_buffers() if isinstance(thing, nn.Module) else thing.items()
    named = ((str(name).removeprefix("module."), buffer) for name, buffer in pairs)
    return {name: b for name, b in named if isinstance(b, torch.Tensor) and name.endswith("running_mean")}


def _averages_of_weights_alone(source: ScriptSource, model: nn.Module) -> Iterator[tuple[str, str]]:
    """Copies in evaluation mode that a loop over the parameters of two networks updates from the trained one, in a
    script that never copies buffers; each with the line of the loop."""
    names = {last_name(node) for node in source.nodes(ast.Name, ast.Attribute)}
    names |= {word.arg or "" for word in source.nodes(ast.keyword)}
    copying = [*source.calls("load_state_dict"), *source.calls("setattr")]
    if not names.isdisjoint(_OF_BUFFERS) or any(site.often != "once" for site in copying):
        return
    into_training = [owner for site in source.calls("train") if (owner := receiver_of(site.node)) is not None]
    if any(source.value(owner) is not model for owner in into_training):
        return  # perhaps the copy measures its own means and variances
    for loop in source.nodes(ast.For):
        if in_idle_function(source, loop):
            continue
        tensors = tensors_named(loop)
        calls = [called(part) for part in ast.walk(loop.iter)]
        of_weights = len(tensors) == 2 and sum(calls.count(kind) for kind in ("parameters", "named_parameters")) == 2
        for name, network in tensors.items() if of_weights else ():
            others = [other for key, other in tensors.items() if key != name]
            updated = any(
                called(part) in _IN_PLACE and isinstance(part, ast.Call) and _starts_with(part.func, name)
                for part in nodes_in(loop.body)
            )
            if updated and source.value(others[0]) is model and _is_in_evaluation(source, network):
                yield ast.unparse(network), source.where(loop)


def _starts_with(method: ast.AST, name: str) -> bool:
    """Whether a chain of attributes and calls starts with a variable: `a.data.mul_`, also `a.mul_(d).add_`."""
    while isinstance(method, ast.Attribute | ast.Call):
        method = method.func if isinstance(method, ast.Call) else method.value
    return isinstance(method, ast.Name) and method.id == name


def _is_in_evaluation(source: ScriptSource, network: ast.expr) -> bool:
    """Whether a network is a copy that is put into evaluation mode, as by `copy.deepcopy(net).eval()`."""
    text = ast.unparse(network)
    stores = (pair for node in source.nodes(ast.Assign) for pair in assigned(node))
    created = [{called(part) for part in ast.walk(value)} for target, value in stores if ast.unparse(target) == text]
    evals = any(ast.unparse(site.node.func) == f"{text}.eval" for site in source.calls("eval"))
    return bool(created) and all("deepcopy" in calls and (evals or "eval" in calls) for calls in created)
