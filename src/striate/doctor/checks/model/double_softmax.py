"""`model.double-softmax`: does a loss that applies softmax or sigmoid itself get logits?"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.heads import (
    SCORES,
    are_probabilities,
    axis_of,
    call_text,
    last_heads,
    lowest_loss,
    origin_of,
    without_last,
)
from striate.doctor.checks.model.variants import gain_text, try_change
from striate.doctor.evidence.call_graph import QUOTIENTS, Call, Head
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial_variants import first_argument, replaced
from striate.records import Finding, Remedy
from striate.wording import several

_CODE = "model.double-softmax"
_SQUASHING = ("sigmoid", "softmax", "hardsigmoid")
_ONE_OVER = QUOTIENTS | {"reciprocal", "__rtruediv__", "__rdiv__"}
_ENOUGH = 16
_LOSS = {
    "cross_entropy": "the cross entropy",
    "log_softmax": "the loss's log_softmax",
    "softmax": "a second softmax",
    "logsumexp": "the loss's logsumexp",
}


def _find_double_softmax(evidence: Evidence) -> Iterator[Finding]:
    graph = evidence.graph
    for head in last_heads(graph, SCORES):
        axis, origin = axis_of(head), origin_of(graph, head)
        if axis is None:
            continue
        if are_probabilities(head.outputs, axis) and not _is_constant(head.outputs):
            yield _softmax_twice(evidence, head, origin, head.outputs.shape[axis])
            return
        logarithms = origin is not None and origin.name == "log_softmax" and head.call.name == "cross_entropy"
        if logarithms and origin is not None:
            yield _harmless(origin)
            return
    for head in last_heads(graph, ("binary_cross_entropy_with_logits",)):
        origin = origin_of(graph, head)
        if origin is not None and (origin.name in _SQUASHING or _is_own_sigmoid(origin, head.outputs)):
            yield _sigmoid_twice(evidence, head, origin)
            return


def _is_own_sigmoid(origin: Call, outputs: torch.Tensor) -> bool:
    """Whether all values of a quotient lie in 0 to 1, as those of 1 / (1 + exp(−x)) do."""
    within = bool(((outputs >= 0) & (outputs <= 1)).all())
    return origin.name in _ONE_OVER and within and outputs.numel() >= _ENOUGH


def _is_constant(outputs: torch.Tensor) -> bool:
    """Whether all scores are the same, so that they sum to 1 by chance."""
    return float(outputs.amax() - outputs.amin()) == 0


def _softmax_twice(evidence: Evidence, head: Head, origin: Call | None, classes: int) -> Finding:
    known = origin if origin is not None and origin.name in ("softmax", "softmin") else None
    remedy = None if known is None else try_change(evidence, "without softmax", replaced((known,), first_argument))
    place = "the network's outputs" if known is None else call_text(known)
    loss = _LOSS[head.call.name]
    return Finding(
        code=_CODE,
        severity="error",
        where=place,
        measured=f"the input of {loss} is between {float(head.outputs.min()):.2g} and {float(head.outputs.max()):.2g} "
        f"and sums to 1 for each sample, so the loss cannot fall below {lowest_loss(classes, 1):.2f} for "
        f"{several(classes, 'class', 'classes')}{gain_text(remedy, 'without the softmax')}",
        threshold="scores of any size: after a second softmax, values from 0 to 1 differ by a factor of e at most",
        why="The softmax is applied twice, because the loss applies it itself. All classes look alike to the loss, and "
        "gradients are small.",
        remedy=Remedy(
            f"Remove the softmax ({place}) and pass the scores to the loss; where you need probabilities: "
            "`model(x).softmax(1)`. Or keep it and use `loss = lambda p, y: nn.functional.nll_loss(p.log(), y)`.",
            advice=without_last("softmax"),
        ),
    )


def _sigmoid_twice(evidence: Evidence, head: Head, origin: Call) -> Finding:
    remedy = try_change(evidence, "without sigmoid", replaced((origin,), first_argument))
    low, high = torch.tensor([0.0, 1.0]).sigmoid().tolist()
    return Finding(
        code=_CODE,
        severity="error",
        where=call_text(origin),
        measured=f"the input of BCEWithLogitsLoss is between {float(head.outputs.min()):.2g} and "
        f"{float(head.outputs.max()):.2g}, the output of a {origin.name}, so its own sigmoid gives {low:.2f} to "
        f"{high:.2f} only{gain_text(remedy, f'without the {origin.name}')}",
        threshold="scores of any size, also below 0: values from 0 to 1 never mean no",
        why="The sigmoid is applied twice, because BCEWithLogitsLoss applies it itself.",
        remedy=Remedy(
            f"Remove the {origin.name} ({call_text(origin)}), or keep it and use `nn.BCELoss()`.",
            advice=without_last(origin.name),
        ),
    )


def _harmless(origin: Call) -> Finding:
    return Finding(
        code=_CODE,
        severity="note",
        where=call_text(origin),
        measured="the cross entropy gets the output of log_softmax, but applies log_softmax itself",
        threshold="one log_softmax",
        why="A second log_softmax takes time and changes nothing.",
        remedy=f"Remove it ({call_text(origin)}), or use `nn.NLLLoss()`.",
    )


DOUBLE_SOFTMAX = Check(
    codes=(_CODE,),
    run=_find_double_softmax,
    explains=(
        "loss.degenerate loss.initial-off model.collapsed model.last-layer-clipped model.saturated "
        "model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*"
    ),
)
