"""`model.last-layer-clipped`: can the network produce the predictions that the loss asks for?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.checks.model.cosine_scores import largest_cosines
from striate.doctor.checks.model.heads import (
    SCORES,
    axis_of,
    call_text,
    last_heads,
    lowest_loss,
    origin_of,
    without_last,
)
from striate.doctor.checks.model.variants import TriedChange, gain_text, try_change
from striate.doctor.evidence.call_graph import (
    DIFFERENCES,
    DISTANCES,
    INPUT,
    REGRESSION,
    SAME_NUMBERS,
    SUMS,
    TIMES,
    Call,
    CallGraph,
)
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial_variants import first_argument, replaced
from striate.records import Finding, Remedy
from striate.wording import percent, several

_CODE = "model.last-layer-clipped"
_INFINITE = math.inf
_RANGES = {
    "relu": (0.0, _INFINITE),
    "relu6": (0.0, 6.0),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "softplus": (0.0, _INFINITE),
    "abs": (0.0, _INFINITE),
    "square": (0.0, _INFINITE),
    "logsigmoid": (-_INFINITE, 0.0),
    "softmax": (0.0, 1.0),
}
_CLAMPS = ("clamp", "clip", "hardtanh", "clamp_min", "clamp_max")
_REVERSED = {"rsub", "__rsub__"}
_FLOOR = 0.02
"""Lowest possible loss of bounded scores that does no harm."""
_OUTSIDE = 0.03
"""Share of the targets out of reach; fewer may be mistakes in the data."""

_COSINES = {True: 1.01, False: 0.9}
"""Largest score that is too small, of cosines with weights of classes (True) and of cosines of pairs (False), which can
be learned without a temperature."""
_TOO_HIGH = 0.3
"""Lowest possible loss of cosines that is too high."""


def _find_last_layer_clipped(evidence: Evidence) -> Iterator[Finding]:
    graph = evidence.graph
    if (small := _small_cosines(graph)) is not None:
        yield small
        return
    for head in last_heads(graph, SCORES):
        origin, axis = origin_of(graph, head), axis_of(head)
        bounds = None if origin is None or origin.name == "softmax" else range_of(origin)
        if origin is not None and bounds is not None and axis is not None:
            yield from _scores(evidence, origin, bounds, head.outputs.shape[axis])
            return
    for head in last_heads(graph, ("binary_cross_entropy_with_logits",)):
        origin = origin_of(graph, head)
        bounds = None if origin is None or "sigmoid" in origin.name or origin.name == "softmax" else range_of(origin)
        if origin is not None and bounds is not None:
            yield from _scores(evidence, origin, bounds, 2)
            return
    for head in last_heads(graph, ("binary_cross_entropy",)):
        origin = origin_of(graph, head)
        inner = None if origin is None or origin.name != "sigmoid" else graph.origin(origin.inputs[0])
        bounds = None if inner is None else range_of(inner)
        if inner is not None and bounds is not None:
            yield from _scores(evidence, inner, bounds, 2)
            return
    yield from _numbers(evidence, graph)


def _small_cosines(graph: CallGraph) -> Finding | None:
    """Scores of a cross entropy that are cosines without a large enough scale."""
    for head in last_heads(graph, ("cross_entropy", "log_softmax", "logsumexp")):
        found, axis = largest_cosines(graph, head.call.inputs[0]) if head.call.inputs else None, axis_of(head)
        if found is None or axis is None:
            continue
        largest, product = found
        floor, of_classes = lowest_loss(head.outputs.shape[axis], 2 * largest), graph.is_weights(product)
        if largest > _COSINES[of_classes] or floor < _TOO_HIGH:
            continue
        names = ("class", "classes") if of_classes else ("sample", "samples")
        return LAST_LAYER_CLIPPED.finding(
            severity="error",
            where=call_text(product),
            measured=f"the scores that the loss gets are cosines, {-largest:.2g} to {largest:.2g}, so it cannot fall "
            f"below {floor:.2f} for {several(head.outputs.shape[axis], *names)}",
            limit=f"cosines whose cross entropy cannot fall below {_TOO_HIGH:g}",
            why="Scores that differ so little give all classes nearly the same probability, even if they are right.",
            remedy="Scale them up before the loss: `scores = cosines / 0.1` with a temperature (divide by it), or "
            "`scores = 16 * cosines` with a scale.",
        )
    return None


def range_of(call: Call) -> tuple[float, float] | None:
    """The lowest and the highest value that a function can return; None where it has no bound."""
    if call.name in _CLAMPS:
        default = (-1.0, 1.0) if call.name == "hardtanh" else (None, None)
        low, high = call.option(1, "min", default[0]), call.option(2, "max", default[1])
        if call.name == "hardtanh":
            low, high = call.option(1, "min_val", low), call.option(2, "max_val", high)
        if call.name == "clamp_max":
            low, high = None, call.option(1, "max")
        bounds = (
            float(low) if isinstance(low, int | float) else -_INFINITE,
            float(high) if isinstance(high, int | float) else _INFINITE,
        )
        return None if bounds == (-_INFINITE, _INFINITE) else bounds
    return _RANGES.get(call.name)


def _scores(evidence: Evidence, origin: Call, bounds: tuple[float, float], classes: int) -> Iterator[Finding]:
    low, high = bounds
    floor = lowest_loss(classes, high - low)
    if math.isfinite(high - low) and floor < _FLOOR:
        return
    remedy = try_change(evidence, "without the last activation", replaced((origin,), first_argument))
    if math.isfinite(high - low):
        measured = (
            f"scores are limited to {low:g} to {high:g}, so the loss cannot fall below {floor:.2f} for "
            f"{several(classes, 'class', 'classes')}"
        )
    else:
        measured = f"scores are never {'below' if low > -_INFINITE else 'above'} 0, so no class can be ruled out"
    yield _finding(
        origin,
        "error" if math.isfinite(high - low) or (remedy is not None and remedy.better) else "warning",
        f"{call_text(origin)}, right before the loss: {measured}",
        remedy,
        f"scores of any size, or bounds that let the loss fall below {_FLOOR}",
        "An activation after the last layer cuts off outputs that the loss needs, and their gradient with them.",
    )


def _numbers(evidence: Evidence, graph: CallGraph) -> Iterator[Finding]:
    """Targets of a regression that the last function cannot reach."""
    direct = (("the network's predictions", "are", *found) for found in _of_losses(evidence, graph))
    changed = (("the network's change of its input", "ask for", *found) for found in _corrections(evidence, graph))
    compared = (("the network's predictions", "are", *found) for found in _of_differences(evidence, graph))
    for what, verb, origin, targets in chain(direct, changed, compared):
        bounds = range_of(origin)
        if bounds is None:
            continue
        low, high = bounds
        values = targets.double()
        margin = 1e-3 * max(1.0, float(values.abs().max()))
        outside = (values < low - margin) | (values > high + margin)
        share = float(outside.double().mean())
        if share < _OUTSIDE:
            continue
        remedy = try_change(evidence, "without the last activation", replaced((origin,), first_argument))
        reach = f"{low:g} to {high:g}".replace("-inf to", "at most").replace(" to inf", " or more")
        yield _finding(
            origin,
            "error",
            f"{what} can only be {reach} ({call_text(origin)}), but {percent(share, 0)} of the targets are outside: "
            f"they {verb} {float(values.min()):.3g} to {float(values.max()):.3g}",
            remedy,
            f"at most {percent(_OUTSIDE, 0)} of the targets outside the bounds of the last function",
            "The network can never reach these targets.",
        )
        return


def _of_losses(evidence: Evidence, graph: CallGraph) -> Iterator[tuple[Call, torch.Tensor]]:
    """The last call of the network, and the targets with which a loss compares it."""
    heads = [head for head in last_heads(graph, REGRESSION) if head.targets is not None]
    for head in heads:
        origin = origin_of(graph, head)
        if origin is not None and head.targets is not None and head.targets.is_floating_point():
            yield origin, head.targets
    first = evidence.first
    targets = first.loss_targets
    if heads or evidence.setup.classifies or graph.output is None or not isinstance(targets, torch.Tensor):
        return
    origin = graph.origin(graph.output)
    outputs = graph.calls[graph.output].shape
    if origin is not None and targets.is_floating_point() and tuple(targets.shape) == tuple(outputs):
        yield origin, targets


def _corrections(evidence: Evidence, graph: CallGraph) -> Iterator[tuple[Call, torch.Tensor]]:
    """The last call before the network adds its result to its input, or to a function of the input without weights, or
    subtracts one from the other; and what that call would have to return for each target."""
    weights = {call.index for call in graph.weights}
    for head in last_heads(graph, REGRESSION):
        end, targets = origin_of(graph, head), head.targets
        if end is not None and end.name in _CLAMPS:
            end = graph.origin(end.inputs[0])
        if end is None or targets is None or end.name not in SUMS - _REVERSED or len(end.inputs) != 2:
            continue
        own = [n for n, index in enumerate(end.inputs) if index == INPUT or not weights & graph.ancestors(index)]
        origin = graph.origin(end.inputs[1 - own[0]]) if len(own) == 1 else None
        if origin is None or range_of(origin) is None or not targets.is_floating_point():
            continue
        base = _argument_of(evidence, end, own[0])
        if base is not None and base.shape == targets.shape:
            y = targets.detach().cpu()
            subtracted = "sub" in end.name
            yield origin, base - y if subtracted and own[0] == 0 else y + base if subtracted else y - base


def _of_differences(evidence: Evidence, graph: CallGraph) -> Iterator[tuple[Call, torch.Tensor]]:
    """The last call before an error that the step computes itself, such as `(outputs - y).abs()`, and its targets."""
    weights = {call.index for call in graph.weights}
    for call in graph.calls[(graph.end or 0) + 1 :]:
        if call.name not in DIFFERENCES or len(call.inputs) != 2 or "" in call.inside or not _is_error(graph, call):
            continue
        known = [n for n, index in enumerate(call.inputs) if index == INPUT or not weights & graph.ancestors(index)]
        origin = graph.origin(call.inputs[1 - known[0]]) if len(known) == 1 else None
        bounds = None if origin is None else range_of(origin)
        targets = None if bounds is None else _argument_of(evidence, call, known[0])
        if origin is None or bounds is None or targets is None or targets.shape != call.shape:
            continue
        outside = targets[(targets < bounds[0]) | (targets > bounds[1])]
        if targets.is_floating_point() and len(outside.unique()) > 1:  # a single number may mark missing targets
            yield origin, targets


def _is_error(graph: CallGraph, call: Call) -> bool:
    """Whether a difference is squared, or its absolute value taken, possibly after a multiplication by weights."""
    awaiting = [call]
    while awaiting:
        at = awaiting.pop()
        behind = [graph.calls[index] for index in graph.consumers[at.index]]
        if any(one.name in DISTANCES or (one.name in TIMES and one.inputs == (at.index,)) for one in behind):
            return True
        awaiting += [one for one in behind if one.name in TIMES | SAME_NUMBERS]
    return False


def _argument_of(evidence: Evidence, call: Call, place: int) -> torch.Tensor | None:
    """The tensor that a call gets as argument number `place` in the first step."""
    arguments: list[tuple[Any, ...]] = []

    def recorded(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        arguments.append(tuple(one.detach().cpu() if isinstance(one, torch.Tensor) else None for one in args))
        return func(*args, **kwargs)

    change = replace(replaced((call,), recorded), notes=arguments)
    known = evidence.variant(f"{call_text(call)}, number {call.ordinal}, watched", change, steps=1).notes
    return known[0][place] if known and place < len(known[0]) else None


def _finding(
    origin: Call, severity: str, measured: str, remedy: TriedChange | None, threshold: str, why: str
) -> Finding:
    return Finding(
        code=_CODE,
        severity="error" if severity == "error" else "warning",
        where=call_text(origin),
        measured=f"{measured}{gain_text(remedy, f'without the {origin.name}')}",
        threshold=threshold,
        why=why,
        remedy=Remedy(
            f"Remove the {call_text(origin)}, so that the network returns the output of its last layer.",
            advice=without_last(origin.name),
        ),
    )


LAST_LAYER_CLIPPED = Check(
    codes=(_CODE,),
    run=_find_last_layer_clipped,
    explains=(
        "loss.degenerate loss.initial-off model.collapsed model.dead-units model.saturated "
        "model.vanishing-gradient optim.lr-too-high optim.lr-too-low fit.*"
    ),
)
