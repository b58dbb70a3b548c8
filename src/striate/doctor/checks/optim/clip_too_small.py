"""`optim.clip-too-small`: does clipping leave enough of the gradients?"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change
from striate.doctor.evidence.watched_step import StepRow, scales_noted
from striate.doctor.setup.replicas import Replica
from striate.observe.gradients import on_gradient
from striate.records import Finding, Remedy
from striate.wording import several

CUT = 0.1
"""Share of the gradients' norm that is left. A clip of 1 leaves a tenth and more of most gradients; a smaller share is
reported only if training without clipping is better."""
NOTHING_LEFT = 1e-2
"""Share of the norm below which clipping is reported without that proof, if nothing is learned; the learning rate may
be too low as well."""
LITTLE, SOME = 0.15, 0.6
GAIN = 0.2
EVEN = 0.01
"""Relative range within which the share is the same in every step, so that it is a scale, as in mixed precision, and no
clip."""


def run(evidence: Evidence) -> Iterator[Finding]:
    """Where the optimizer gets much smaller gradients than backward computes, and little is learned, compares the trial
    with one without clipping."""
    own = evidence.progress
    pairs = _raw_and_applied(evidence.trial.rows)
    if own.share > SOME or len(pairs) < 3:
        return
    if any(parameter._backward_hooks for parameter in evidence.fresh.model.parameters()):
        yield from _by_hooks(evidence)
        return
    left = [applied / raw for raw, applied in pairs]
    if statistics.median(left) > CUT or max(left) - min(left) < EVEN * max(left):
        return
    certain = statistics.median(left) < NOTHING_LEFT and own.share < LITTLE
    scales = list[float]()
    unclipped = Change(prepare=partial(_unclip, scales=scales), around=lambda *_: _recording(scales))
    other = evidence.progress_of(evidence.variant("gradients not clipped", unclipped))
    better = other.beats(own, 1.5 if own.share < LITTLE else 2.0) and other.share >= max(own.share, 0.0) + GAIN
    if not better and not certain:
        return
    raw, applied = (statistics.median(values) for values in zip(*pairs, strict=True))
    yield Finding(
        code="optim.clip-too-small",
        severity="error" if own.share < LITTLE else "warning",
        where="the clipping of gradients",
        measured=f"gradients have a norm of {raw:.2g}, and the optimizer gets {applied:.2g}, "
        f"{statistics.median(left):.1g} of it; without clipping the loss after {several(other.steps, 'step')} is "
        f"{other} instead of {own}",
        threshold=f"less than {CUT:g} of their norm is left, and without clipping the loss is 1.5 times lower",
        why="Clipping is meant for rare gradients that are far larger than usual. This limit cuts every gradient, so "
        "the effective learning rate is tiny.",
        remedy=Remedy(
            "Clip at a few times the usual norm: `torch.nn.utils.clip_grad_norm_(model.parameters(), "
            f"{_round(3 * raw)})`, "
            "or leave it out.",
            settings={"optim.clip": 1.0},
        ),
    )


def _by_hooks(evidence: Evidence) -> Iterator[Finding]:
    """Compares the trial with one without the hooks of parameters, whose effect on gradients cannot be measured
    directly."""
    own = evidence.progress
    other = evidence.progress_of(evidence.variant("gradients without hooks", Change(prepare=_unhook)))
    if not other.beats(own, 1.5 if own.share < LITTLE else 2.0) or other.share < max(own.share, 0.0) + GAIN:
        return
    yield Finding(
        code="optim.clip-too-small",
        severity="error" if own.share < LITTLE else "warning",
        where="the hooks of parameters",
        measured=f"without the hooks of `parameter.register_hook` the loss after {several(other.steps, 'step')} is "
        f"{other} instead of {own}",
        threshold="without the hooks the loss is 1.5 times lower",
        why="The hooks make gradients too small, or change their direction.",
        remedy=Remedy(
            "Remove the hooks. To clip, call `torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)` before "
            "`optimizer.step()`.",
            settings={"optim.clip": 1.0},
        ),
    )


def _unhook(replica: Replica) -> None:
    for parameter in replica.model.parameters():
        (parameter._backward_hooks or {}).clear()


def _raw_and_applied(rows: Sequence[StepRow]) -> list[tuple[float, float]]:
    """The norms of the gradients before and after clipping, in steps of the optimizer after a single backward pass."""
    return [(row.raw, row.applied) for row in rows if row.steps == 1 and row.raw and row.applied and not row.stale]


def _round(value: float) -> str:
    return f"{float(f'{value:.1g}'):g}"


def _recording(scales: list[float]) -> AbstractContextManager[None]:
    """Record the scales of a GradScaler in one step."""
    scales.clear()
    return scales_noted(scales)


def _unclip(replica: Replica, scales: Sequence[float]) -> None:
    """Pass the gradients of backward to the optimizer, divided only by the scale of a GradScaler."""
    raw: dict[int, torch.Tensor] = {}
    held = [p for group in replica.optimizer.param_groups for p in group["params"] if p.requires_grad and p.is_leaf]

    def note(parameter: torch.Tensor) -> Any:
        def hook(gradient: torch.Tensor) -> None:
            before = raw.get(id(parameter))
            raw[id(parameter)] = gradient.detach().clone() if before is None else before + gradient.detach()

        return hook

    def stepping(_: Optimizer, __: Any, ___: Any) -> None:
        for parameter in held:
            if parameter.grad is not None and id(parameter) in raw:
                parameter.grad = (raw[id(parameter)] / (scales[-1] if scales else 1)).to(parameter.grad.dtype)
        raw.clear()

    for parameter in held:
        on_gradient(parameter, note(parameter))
    replica.optimizer.register_step_pre_hook(stepping)


CLIP_TOO_SMALL = Check(
    codes=("optim.clip-too-small",),
    run=run,
    quick=False,
    explains="optim.lr-too-low fit.*",
)
