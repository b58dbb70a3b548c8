"""`optim.state-lost`: does the optimizer keep its momentum from step to step?"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import torch
from torch import nn
from torch.optim import Optimizer

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reached_objects import reached_optimizers
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import argument, called, nodes_in, receiver_of, stored_in
from striate.records import Finding

_WITHOUT_MOMENTUM = "There is no momentum: each step follows the gradient of its own batch alone."
_WITHOUT_AVERAGES = (
    "The averages of gradients, and of their squares, are those of a single batch: every weight moves by about the "
    "whole learning rate, however small its gradient is."
)


def _run(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    loop = source.training_loop
    optimizers = reached_optimizers(source.names) or [evidence.trial.replica.optimizer]
    kinds = {type(one).__name__ for one in optimizers if _has_state(one)}
    made_in_loop = set[str]().union(*map(stored_in, loop.body)) if loop is not None else set[str]()
    for site in source.calls(*kinds):
        network = _network_given(source, site.node)
        if site.often != "batch" or network is None or network.id in made_in_loop:
            continue
        yield STATE_LOST.finding(
            severity="warning",
            where=site.where,
            measured=f"`{site.text}` runs for each batch, so each step is the first one of a new optimizer",
            why=_WITHOUT_MOMENTUM if called(site.node) == "SGD" else _WITHOUT_AVERAGES,
            remedy=f"move `{site.text}` before the loop, after `{network.id}` is made",
        )
        return


def _has_state(optimizer: Optimizer) -> bool:
    """Whether a step depends on earlier gradients: of plain SGD it does not."""
    return not isinstance(optimizer, torch.optim.SGD) or any(group["momentum"] for group in optimizer.param_groups)


def _network_given(source: ScriptSource, call: ast.Call) -> ast.Name | None:
    """The network whose parameters an optimizer is given, where a variable holds it."""
    given = argument(call, 0, "params")
    named = map(receiver_of, nodes_in(given, ast.Call)) if given is not None else ()
    return next((one for one in named if isinstance(one, ast.Name) and isinstance(source.value(one), nn.Module)), None)


STATE_LOST = Check(
    codes=("optim.state-lost",),
    threshold="an optimizer with momentum or running averages that is made in each pass of the training loop, for a "
    "network that is not",
    run=_run,
    of_source=True,
)
