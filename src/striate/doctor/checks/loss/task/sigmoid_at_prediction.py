"""Outputs that the loss compares with targets directly, though the script takes their sigmoid as the prediction."""

from __future__ import annotations

import ast

from torch import nn

from striate.doctor.checks.loss.task.wrong import Wrong
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource, Site
from striate.doctor.setup.syntax import receiver_of

_TIMES = 2.0
_BINARY = ("BCEWithLogitsLoss", "binary_cross_entropy_with_logits", "BCELoss", "binary_cross_entropy")


def sigmoid_at_prediction(evidence: Evidence) -> Wrong | None:
    """Outputs that are near targets from 0 to 1 after the trial, while the sigmoid that the script takes of them is far
    from the targets."""
    source = evidence.setup.source
    if source is None or source.calls(*_BINARY):
        return None
    site = next((site for site in source.calls("sigmoid", "expit") if _is_of_network(source, site, evidence)), None)
    if site is None:
        return None
    outputs, targets = evidence.after_training.outputs, evidence.after_training.targets
    if targets is None or targets.numel() != outputs.numel() or not bool(((targets >= 0) & (targets <= 1)).all()):
        return None
    outputs, targets = outputs.double().flatten(), targets.double().flatten()
    plain, squashed = (float((each - targets).square().mean()) for each in (outputs, outputs.sigmoid()))
    constant = float(targets.var(correction=0))
    if not plain < constant or not squashed >= _TIMES * plain:  # also true for NaN
        return None
    return Wrong(
        "error",
        f"`{site.text}` ({site.where}) takes the sigmoid of what the network predicts, but the loss compares outputs "
        f"with targets as they are: after the trial their mean squared error is {plain:.3g}, and that of their sigmoid "
        f"{squashed:.3g}",
        "The network learns to output the targets themselves, and the sigmoid of 0 to 1 is only 0.5 to 0.73.",
        "train with `nn.BCEWithLogitsLoss()`, whose targets may be any numbers from 0 to 1, or with the sigmoid in "
        "front of the loss, `criterion(torch.sigmoid(outputs), targets)`; or predict without the sigmoid",
        limit=f"outputs closer to targets from 0 to 1 than the mean target is, where the sigmoid that the script takes "
        f"of them has {_TIMES:g} times their squared error; no binary cross entropy in the script",
    )


def _is_of_network(source: ScriptSource, site: Site, evidence: Evidence) -> bool:
    """Whether a sigmoid, outside of `forward`, is taken of a network's output, in a script that calls only networks of
    the class of the trained one."""
    argument = site.node.args[0] if site.node.args else receiver_of(site.node)
    scope = source.scope_of(site.node)
    within = getattr(scope, "name", "") == "forward"
    if within or not source.is_prediction(argument, source.predictions_in(scope)):
        return False
    networks = (source.value(node.func) for node in source.nodes(ast.Call) if source.runs_network(node))
    return not any(isinstance(one, nn.Module) and type(one) is not type(evidence.setup.model) for one in networks)
