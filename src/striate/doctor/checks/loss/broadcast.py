"""`loss.broadcast`: a loss of outputs and targets in different shapes."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.checks.loss.degenerate.degenerate import same_in_any_order
from striate.doctor.evidence.calls import watch_calls
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.token_targets import CLASS_LOSSES
from striate.doctor.evidence.trial import Change
from striate.doctor.setup.batch import main_tensor, parts, reshuffled, size_of
from striate.doctor.setup.replicas import Replica
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import called, is_operation
from striate.observe.interventions import change_output
from striate.records import Finding
from striate.wording import several, show_shape


def _find_broadcast(evidence: Evidence) -> Iterator[Finding]:
    for rule in (_of_loss_arguments, _of_a_column, _of_maps, _within_network):
        if findings := list(rule(evidence)):
            yield from findings
            return


def _of_a_column(evidence: Evidence) -> Iterator[Finding]:
    """A difference between shapes (N, 1) and (N,), where the script computes the loss without torch's functions."""
    first = main_tensor(evidence.train.raw[0])
    count = 0 if first is None else len(first)
    for outputs, targets in evidence.calls.differences:
        if count > 1 and sorted((outputs, targets)) == [(count,), (count, 1)]:
            yield _finding(outputs, targets, (count, count), " in their difference", _remedy(outputs, targets))
            return


def _of_maps(evidence: Evidence) -> Iterator[Finding]:
    """A product or difference of maps (N, 1, H, W) and (N, H, W), as in a focal loss that the script computes.

    A batch with one sample less has to show the same shapes with N - 1.
    """
    count = size_of(evidence.train.raw[0])
    for outputs, targets in evidence.calls.broadcast_maps:
        fewer = reshuffled(evidence.train.raw[:1], torch.arange(count - 1)) if outputs[0] == count else None
        again = watch_calls(evidence.setup, fewer[0], evidence.clock.until(0.05)).broadcast_maps if fewer else set()
        if any(shape[0] == count - 1 for shape, _ in again):
            broadcast = (count, *targets)
            yield _finding(outputs, targets, broadcast, " in a product or difference", _remedy(outputs, targets))
            return


def _within_network(evidence: Evidence) -> Iterator[Finding]:
    """A network that adds shapes (N, 1) and (N,), so that its outputs are (N, N), where each sample has one target."""
    outputs, target = main_tensor(evidence.first.outputs), main_tensor(parts(evidence.train.raw[0])[1])
    if outputs is None or target is None or any(call.name in CLASS_LOSSES for call in evidence.calls.losses):
        return
    count, targets = len(target) if target.ndim else 0, tuple(target.shape)
    added = next((pair for pair in evidence.calls.sums if sorted(pair) == [(count,), (count, 1)]), None)
    if count > 1 and target.numel() == count and outputs.shape == (count, count) and added:
        where = f": the network adds {show_shape(added[0])} to {show_shape(added[1])}"
        remedy = "give both the same shape in the network: `column.squeeze(1) + row`"
        yield _finding((count, count), targets, (count, count), where, remedy)


def _of_loss_arguments(evidence: Evidence) -> Iterator[Finding]:
    outputs, targets = _compared(evidence)
    if outputs is None or targets is None or outputs == targets or len(evidence.calls.losses) > 1:
        yield from _among_several(evidence)
        return
    broadcast = _broadcast(outputs, targets)
    if math.prod(outputs) != math.prod(targets):
        if evidence.calls.sizes_differ and broadcast is not None:
            yield _finding(outputs, targets, broadcast, "", _resize_remedy(targets))
        return
    error = evidence.trial.error
    if error is not None and not evidence.trial.rows:
        if evidence.trial.phase == "loss" and re.search("size|broadcast shape", str(error)):
            text = f"; the loss raises {type(error).__name__}: {' '.join(str(error).split())[:120]}"
            yield _finding(outputs, targets, None, text, _remedy(outputs, targets))
        return
    if broadcast is None or math.prod(broadcast) <= math.prod(outputs):
        return
    seen = broadcast in evidence.calls.shapes or evidence.calls.sizes_differ
    if not seen and same_in_any_order(evidence) is None:  # some of torch's losses broadcast without a warning
        return
    same_shape = _with_shape(evidence, targets)
    fixed = evidence.variant("outputs in the shape of the targets", same_shape)
    before = evidence.trial.losses[0]
    if fixed.error is not None or not fixed.rows or math.isclose(before, fixed.losses[0], rel_tol=1e-5):
        return  # the step itself gives both the same shape
    text = (
        f"; after {several(len(fixed.rows), 'step')} the loss is {evidence.trial.level():.3g}, and "
        f"{fixed.level():.3g} with outputs in the shape of the targets"
    )
    yield _finding(outputs, targets, broadcast, text, _remedy(outputs, targets))


def _among_several(evidence: Evidence) -> Iterator[Finding]:
    """The first of several losses of a step whose shapes differ, where torch warns that sizes differ."""
    for call in evidence.calls.losses if evidence.calls.sizes_differ else ():
        outputs, targets = tuple(call.input.shape), tuple(call.target.shape)
        if call.name in CLASS_LOSSES or outputs == targets:
            continue
        if (found := _all_with_all(outputs, targets, f" in `{call.name}`")) is not None:
            yield found
            return


def _all_with_all(outputs: tuple[int, ...], targets: tuple[int, ...], where: str) -> Finding | None:
    """The finding for shapes with equally many elements that broadcast to a larger shape; None for other shapes."""
    broadcast = _broadcast(outputs, targets)
    if broadcast is None or not math.prod(broadcast) > math.prod(outputs) == math.prod(targets):
        return None
    return _finding(outputs, targets, broadcast, where, _remedy(outputs, targets))


def _compared(evidence: Evidence) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """The shapes of outputs and targets that the loss compares: its own arguments if known, else those of the first
    elementwise loss of torch in the step, else the network's outputs and the loader's targets."""
    first = evidence.trial.first
    outputs, targets = first.loss_outputs, first.loss_targets
    if outputs is None or targets is None:
        elementwise = [call for call in evidence.calls.losses if call.name not in CLASS_LOSSES]
        if elementwise:
            outputs, targets = elementwise[0].input, elementwise[0].target
        else:
            outputs, targets = first.outputs, main_tensor(parts(evidence.train.raw[0])[1])
    shapes = [tuple(t.shape) if isinstance(t, torch.Tensor) and t.ndim else None for t in (outputs, targets)]
    return shapes[0], shapes[1]


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...] | None:
    try:
        return tuple(torch.broadcast_shapes(a, b))
    except RuntimeError:
        return None


def _with_shape(evidence: Evidence, targets: tuple[int, ...]) -> Change:
    """A change that reshapes outputs to the shape of the targets: at the loss where the step calls it, else at the
    network's output."""

    def shaped(outputs: Any) -> Any:
        if isinstance(outputs, torch.Tensor) and outputs.numel() % math.prod(targets[1:]) == 0:
            return outputs.reshape(-1, *targets[1:])
        return outputs

    if evidence.trial.first.loss_outputs is not None:

        def around(loss: Any) -> Any:
            return lambda outputs, *rest, **options: loss(shaped(outputs), *rest, **options)

        return Change(wrap_loss=around)

    def prepare(replica: Replica) -> None:
        change_output(replica.model, lambda _, outputs: shaped(outputs))

    return Change(prepare=prepare)


def _remedy(outputs: tuple[int, ...], targets: tuple[int, ...]) -> str:
    if len(outputs) == len(targets) + 1 and outputs[1:2] == (1,):
        return "compare `outputs.squeeze(1)` with the targets"
    if len(targets) == len(outputs) + 1 and targets[1:2] == (1,):
        return "compare the outputs with `targets.squeeze(1)`"
    return "compare `outputs.view_as(targets)` with the targets"


def _resize_remedy(targets: tuple[int, ...]) -> str:
    if len(targets) == 2:
        return f"give the last layer {several(targets[1], 'output')}, one for each number in a target"
    return "give the last layer one output, and compare `outputs.squeeze(1)` with the targets"


def _finding(
    outputs: tuple[int, ...],
    targets: tuple[int, ...],
    broadcast: tuple[int, ...] | None,
    details: str,
    remedy: str,
) -> Finding:
    compared = "" if broadcast is None else f", which broadcast to {show_shape(broadcast)}"
    return BROADCAST.finding(
        severity="error",
        where="the loss",
        measured=f"outputs have shape {show_shape(outputs)}, targets {show_shape(targets)}{compared}{details}",
        why="Each output is compared with the targets of all samples, so the best prediction for every sample is the "
        "mean of all targets.",
        remedy=remedy,
    )


BROADCAST = Check(
    codes=("loss.broadcast",),
    threshold="as many outputs as targets, in shapes that broadcast to a larger one (exact, not estimated)",
    run=_find_broadcast,
    explains="data.step-labels loss.degenerate loss.wrong-for-task model.collapsed optim.lr-too-high optim.lr-too-low "
    "fit.*",
)


_MODULES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCEWithLogitsLoss)
_ELEMENTWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits")


def _among_variables(evidence: Evidence) -> Iterator[Finding]:
    """Losses of two variables of a script whose step cannot be repeated, as one that plays an environment: by the
    shapes of the variables' tensors at the first step."""
    source = evidence.source
    names = {called(node) for node in _elementwise_losses(source)}
    for site in source.calls(*_ELEMENTWISE, *names):
        compared = [value for part in site.node.args[:2] if isinstance(value := source.value(part), torch.Tensor)]
        if len(compared) == 2:
            outputs, targets = (tuple(tensor.shape) for tensor in compared)
            if (found := _all_with_all(outputs, targets, f" in `{site.text}`")) is not None:
                yield replace(found, where=site.where)
                return
    for node in source.nodes():
        if not is_operation(node, ast.Sub) or not _is_measured(source, node):
            continue
        named = _is_named(node.left) and _is_named(node.right)  # not `x[:, None] - x`
        sides = [source.value(node.left), source.value(node.right)]
        if named and all(isinstance(side, torch.Tensor) and side.is_floating_point() for side in sides):
            shapes = [tuple(side.shape) for side in sides]
            for outputs, targets in (shapes, shapes[::-1]):
                if (found := _all_with_all(outputs, targets, f" in `{ast.unparse(node)}`")) is not None:
                    yield replace(found, where=source.where(node))
                    return


def _elementwise_losses(source: ScriptSource) -> Iterator[ast.Call]:
    """Calls of the script's modules of elementwise losses."""
    for node in source.nodes(ast.Call):
        if isinstance(source.value(node.func), _MODULES):
            yield node


def _is_named(node: ast.expr) -> bool:
    """Whether an expression is a variable, or a variable indexed by another one."""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Name):
        node = node.value
    return isinstance(node, ast.Name)


def _is_measured(source: ScriptSource, node: ast.AST) -> bool:
    """Whether a difference is squared, or its absolute value is taken."""
    outer = source.parent(node)
    if isinstance(outer, ast.BinOp):
        return isinstance(outer.op, ast.Pow) and outer.left is node
    return isinstance(outer, ast.Attribute) and outer.attr in ("pow", "square", "abs")


BROADCAST_OF_VARIABLES = Check(
    codes=BROADCAST.codes,
    run=_among_variables,
    of_source=True,
)
