"""A network that is created again in each epoch, so that it never trains for more than one."""

from __future__ import annotations

import ast

from torch import nn

from striate.doctor.checks.model.evaluated.code import CODE
from striate.doctor.checks.model.evaluated.never_updated import networks_by_name
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import assigned, called, names_in, nodes_in
from striate.records import Finding

_LOADING = ("load_state_dict", "load", "load_model", "set_weights", "copy_")


def created_in_each_epoch(evidence: Evidence) -> Finding | None:
    """The finding for a loop over epochs, the innermost one around the training loop, that makes the trained network
    and loads no weights into it; None where there is none. A loop over folds or seeds has a loop over epochs in it, or
    a variable of another name."""
    source = evidence.source
    loop = _epoch_loop(source)
    if loop is None:
        return None
    inside = list(nodes_in(loop.body))
    if any(called(node) in _LOADING for node in inside):
        return None
    trained = {name for name, thing in networks_by_name(source) if thing is evidence.setup.model}
    for node in (node for node in inside if isinstance(node, ast.Assign)):
        for target, value in assigned(node):
            name = ast.unparse(target)
            # `model = compiled(model)` and `model = copy.deepcopy(best)` continue with trained weights.
            made_of = any(isinstance(source.names.get(given), nn.Module) for given in names_in(value))
            if name in trained and isinstance(value, ast.Call) and not made_of:
                return Finding(
                    code=CODE,
                    severity="error",
                    where=f"line {node.lineno}",
                    measured=f"`{ast.unparse(node)}` creates the network again in each epoch of the loop in line "
                    f"{loop.lineno}",
                    threshold="the trained network is created in the loop over epochs around the training loop",
                    why="Each epoch begins with untrained weights: the network never trains for more than one.",
                    remedy="create the network and its optimizer once, before the loop over epochs",
                )
    return None


def _epoch_loop(source: ScriptSource) -> ast.For | None:
    """The loop over epochs that is the innermost loop around the training loop; None where that is another loop, or
    unknown."""
    around = [loop for loop in source.running_loops if loop is not source.training_loop]
    inner = [one for one in around if all(one is other or one in ast.walk(other) for other in around)]
    loop = inner[0] if len(inner) == 1 else None
    if not isinstance(loop, ast.For) or not any("epoch" in name.lower() for name in names_in(loop.target)):
        return None
    return loop
