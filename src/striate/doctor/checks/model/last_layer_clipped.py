"""`model.last-layer-clipped`: can the network give the answers that the loss wants?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.heads import REGRESSION, SCORES, axis_of, last_heads, lowest_loss, made_by, named
from striate.doctor.checks.model.remedies import Tried, said, tried
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.flow import Call, Flow
from striate.doctor.evidence.trial_variants import first_argument, replaced
from striate.records import Finding

CODE = "model.last-layer-clipped"
INFINITE = math.inf
_RANGES = {
    "relu": (0.0, INFINITE),
    "relu6": (0.0, 6.0),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "softplus": (0.0, INFINITE),
    "abs": (0.0, INFINITE),
    "square": (0.0, INFINITE),
    "logsigmoid": (-INFINITE, 0.0),
    "softmax": (0.0, 1.0),
}
FLOOR = 0.02
"""Scores within bounds so wide that the loss can still fall below this are no hindrance."""
OUTSIDE = 0.03
"""A share of the targets: fewer may be mistakes in the data."""


def run(evidence: Evidence) -> Iterator[Finding]:
    flow = evidence.flow
    for head in last_heads(flow, SCORES):
        origin, axis = made_by(flow, head), axis_of(head)
        bounds = None if origin is None or origin.name == "softmax" else range_of(origin)
        if origin is not None and bounds is not None and axis is not None:
            yield from _scores(evidence, origin, bounds, head.outputs.shape[axis])
            return
    for head in last_heads(flow, ("binary_cross_entropy_with_logits",)):
        origin = made_by(flow, head)
        bounds = None if origin is None or "sigmoid" in origin.name or origin.name == "softmax" else range_of(origin)
        if origin is not None and bounds is not None:
            yield from _scores(evidence, origin, bounds, 2)
            return
    yield from _numbers(evidence, flow)


def range_of(call: Call) -> tuple[float, float] | None:
    """The least and the largest number that a function can give; None where there is no bound."""
    if call.name in ("hardtanh", "clamp", "clip", "clamp_min", "clamp_max"):
        default = (-1.0, 1.0) if call.name == "hardtanh" else (None, None)
        low, high = call.option(1, "min", default[0]), call.option(2, "max", default[1])
        if call.name == "hardtanh":
            low, high = call.option(1, "min_val", low), call.option(2, "max_val", high)
        if call.name == "clamp_max":
            low, high = None, call.option(1, "max")
        found = (
            float(low) if isinstance(low, int | float) else -INFINITE,
            float(high) if isinstance(high, int | float) else INFINITE,
        )
        return None if found == (-INFINITE, INFINITE) else found
    return _RANGES.get(call.name)


def _scores(evidence: Evidence, origin: Call, bounds: tuple[float, float], classes: int) -> Iterator[Finding]:
    low, high = bounds
    floor = lowest_loss(classes, high - low)
    if math.isfinite(high - low) and floor < FLOOR:
        return
    remedy = tried(evidence, "without the last activation", replaced((origin,), first_argument))
    if math.isfinite(high - low):
        measured = f"scores lie in {low:g} to {high:g}; the loss cannot fall below {floor:.2f} for {classes} classes"
    else:
        measured = f"scores are never {'below' if low > -INFINITE else 'above'} 0: a class cannot be ruled out"
    yield _finding(
        origin,
        "error" if math.isfinite(high - low) or (remedy is not None and remedy.better) else "warning",
        f"{named(origin)}, right before the loss: {measured}",
        remedy,
        f"scores of any size, or bounds that let the loss fall below {FLOOR}",
        "An activation behind the last layer cuts off what the loss wants, and its gradient with it.",
    )


def _numbers(evidence: Evidence, flow: Flow) -> Iterator[Finding]:
    """Numbers that are to be met."""
    for origin, targets in _met(evidence, flow):
        bounds = range_of(origin)
        if bounds is None:
            continue
        low, high = bounds
        values = targets.double()
        margin = 1e-3 * max(1.0, float(values.abs().max()))
        outside = (values < low - margin) | (values > high + margin)
        share = float(outside.double().mean())
        if share < OUTSIDE:
            continue
        remedy = tried(evidence, "without the last activation", replaced((origin,), first_argument))
        reach = f"{low:g} to {high:g}".replace("-inf to", "at most").replace(" to inf", " or more")
        yield _finding(
            origin,
            "error",
            f"the network's answers can be {reach} ({named(origin)}), but {share:.0%} of the targets lie outside: they "
            f"are {float(values.min()):.3g} to {float(values.max()):.3g}",
            remedy,
            f"at most {OUTSIDE:.0%} of the targets outside of what the last function can give",
            "These targets can never be met.",
        )
        return


def _met(evidence: Evidence, flow: Flow) -> Iterator[tuple[Call, torch.Tensor]]:
    """The last call of the network, and the targets that it is compared with."""
    heads = [head for head in last_heads(flow, REGRESSION) if head.targets is not None]
    for head in heads:
        origin = made_by(flow, head)
        if origin is not None and head.targets is not None and head.targets.is_floating_point():
            yield origin, head.targets
    first = evidence.first
    targets = first.loss_targets
    if heads or evidence.patient.classifies or flow.output is None or not isinstance(targets, torch.Tensor):
        return
    origin = flow.origin(flow.output)
    outputs = flow.calls[flow.output].shape
    if origin is not None and targets.is_floating_point() and tuple(targets.shape) == tuple(outputs):
        yield origin, targets


def _finding(origin: Call, severity: str, measured: str, remedy: Tried | None, threshold: str, why: str) -> Finding:
    return Finding(
        code=CODE,
        severity="error" if severity == "error" else "warning",
        where=named(origin),
        measured=f"{measured}{said(remedy, f'without the {origin.name}')}",
        threshold=threshold,
        why=why,
        remedy=f"Remove the {origin.name} behind the last layer ({named(origin)}): `return self.last(x)`.",
    )


CHECK = Check(
    codes=(CODE,),
    question="Can the network give the answers that the loss wants?",
    threshold="an activation right before the loss whose bounds keep a cross entropy above 0.02, or that 3 % of the "
    "targets lie outside of: fewer may be mistakes in the data",
    run=run,
    explains=(
        "loss.degenerate loss.initial-off model.collapsed model.dead-units model.saturated "
        "model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*"
    ),
)
