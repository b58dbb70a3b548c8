"""loss.broadcast: are outputs and targets compared all with all, since their shapes differ?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.doctor.patient.batch import main_tensor, parts
from striate.doctor.patient.copies import Double
from striate.records import Finding
from striate.wording import show_shape


def _run(evidence: Evidence) -> Iterator[Finding]:
    outputs, targets = _compared(evidence)
    if outputs is None or targets is None or outputs == targets:
        return
    spread = _broadcast(outputs, targets)
    if math.prod(outputs) != math.prod(targets):
        if evidence.calls.sizes_differ and spread is not None:
            yield _finding(outputs, targets, spread, "", _resize_remedy(targets))
        return
    error = evidence.trial.error
    if error is not None and not evidence.trial.rows:
        if evidence.trial.phase == "loss" and "size" in str(error):
            text = f"; the loss raises {type(error).__name__}: {' '.join(str(error).split())[:120]}"
            yield _finding(outputs, targets, None, text, _remedy(outputs, targets))
        return
    if spread is None or math.prod(spread) <= math.prod(outputs):
        return
    if spread not in evidence.calls.shapes and not evidence.calls.sizes_differ:
        return
    same_shape = _with_shape(evidence, targets)
    mended = evidence.variant("outputs in the shape of the targets", same_shape)
    before = evidence.trial.losses[0]
    if mended.error is not None or not mended.rows or math.isclose(before, mended.losses[0], rel_tol=1e-5):
        return  # the step brings them into one shape itself
    text = (
        f"; after {len(mended.rows)} steps the loss is {mended.level():.3g} with outputs in the shape of the targets, "
        f"{evidence.trial.level():.3g} without"
    )
    yield _finding(outputs, targets, spread, text, _remedy(outputs, targets))


def _compared(evidence: Evidence) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """The shapes of what the loss compares: as it was given them, or as one of torch's losses was, or else as network
    and loader gave them."""
    first = evidence.trial.first
    outputs, targets = first.loss_outputs, first.loss_targets
    if outputs is None or targets is None:
        elementwise = [call for call in evidence.calls.losses if call.name not in ("cross_entropy", "nll_loss")]
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
    """A change that brings outputs into the shape of the targets: before the loss where the step calls it, and else as
    the network gives them."""

    def shaped(outputs: Any) -> Any:
        if isinstance(outputs, torch.Tensor) and outputs.numel() % math.prod(targets[1:]) == 0:
            return outputs.reshape(-1, *targets[1:])
        return outputs

    if evidence.trial.first.loss_outputs is not None:

        def around(loss: Any) -> Any:
            return lambda outputs, *rest, **options: loss(shaped(outputs), *rest, **options)

        return Change(around=around)

    def hook(_: nn.Module, __: Any, outputs: Any) -> Any:
        return shaped(outputs)

    def prepare(double: Double) -> None:
        double.model.register_forward_hook(hook)

    return Change(prepare=prepare)


def _remedy(outputs: tuple[int, ...], targets: tuple[int, ...]) -> str:
    if len(outputs) == len(targets) + 1 and outputs[1:2] == (1,):
        return "compare `outputs.squeeze(1)` with the targets"
    if len(targets) == len(outputs) + 1 and targets[1:2] == (1,):
        return "compare the outputs with `targets.squeeze(1)`"
    return "compare `outputs.view_as(targets)` with the targets"


def _resize_remedy(targets: tuple[int, ...]) -> str:
    if len(targets) == 2:
        return f"give the last layer {targets[1]} outputs, as many as there are numbers in a target"
    return "give the last layer one output, and compare `outputs.squeeze(1)` with the targets"


def _finding(
    outputs: tuple[int, ...],
    targets: tuple[int, ...],
    spread: tuple[int, ...] | None,
    tried: str,
    remedy: str,
) -> Finding:
    compared = "" if spread is None else f" and are compared as {show_shape(spread)}"
    return Finding(
        code="loss.broadcast",
        severity="error",
        where="the loss",
        measured=f"outputs have shape {show_shape(outputs)}, targets {show_shape(targets)}{compared}{tried}",
        threshold=CHECK.threshold,
        why="Each output is compared with the targets of all samples, so the best answer is the same for each: their "
        "mean.",
        remedy=remedy,
    )


CHECK = Check(
    codes=("loss.broadcast",),
    question="Are outputs and targets of different shapes compared all with all?",
    threshold="as many outputs as targets, shapes that broadcast to more, and a loss that is another one once the "
    "outputs have the shape of the targets: exact, nothing is estimated",
    run=_run,
    quick=False,
    explains="loss.degenerate model.collapsed optim.lr-too-high optim.lr-too-low fit.*",
)
