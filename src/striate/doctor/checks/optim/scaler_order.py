"""`optim.scaler-order`: are loss, step and autocast in the order that mixed precision needs?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.amp.grad_scaler import GradScaler

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change, run_trial
from striate.observe.module_calls import optimizer_steps
from striate.records import Finding

CODE = "optim.scaler-order"
_METHODS = ("scale", "unscale_", "step", "update")
_RIGHT = "`scaler.scale(loss).backward()`, then `scaler.step(optimizer)`, then `scaler.update()`, each once a step"


@dataclass
class _ScalerUse:
    """How training steps use a GradScaler and autocast."""

    calls: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_METHODS, 0))
    """Number of calls of each method of a GradScaler."""
    inside: int = 0
    """Depth of the current calls of these methods; 0 outside of them."""
    bare_steps: int = 0
    """Optimizer steps outside of `scaler.step`."""
    backward_in_autocast: bool = False
    """Whether backward runs within autocast."""
    step_in_autocast: bool = False
    """Whether an optimizer step runs within autocast."""
    scale: float = 1.0
    """The scale of the loss; 1 if the scaler is disabled."""


def _run(evidence: Evidence) -> Iterator[Finding]:
    use = _use_in_step(evidence)
    calls = use.calls
    factor = f"the scale, {use.scale:g}" if use.scale > 1 else "the scale"
    if calls["scale"] and use.bare_steps:
        yield _finding(
            "error",
            f"the loss is scaled, but `optimizer.step()` is called directly: its gradients are too large by {factor}",
            f"use `scaler.step(optimizer)` instead of `optimizer.step()`: {_RIGHT}",
            "a scaled loss and a direct call of `optimizer.step()`",
        )
    elif calls["step"] and not calls["scale"]:
        yield _finding(
            "error",
            f"`scaler.step` divides the gradients by {factor}, but the loss was not multiplied by it",
            f"use `scaler.scale(loss).backward()` instead of `loss.backward()`: {_RIGHT}",
            "`scaler.step` without `scaler.scale`",
        )
    elif calls["step"] and not calls["update"]:
        yield _finding(
            "error",
            "`scaler.step` is called, but `scaler.update` never is: the second step raises, or the scale never changes",
            f"call `scaler.update()` after `scaler.step(optimizer)`: {_RIGHT}",
            "`scaler.step` without `scaler.update`",
        )
    elif use.backward_in_autocast or use.step_in_autocast:
        what = "the optimizer's step" if use.step_in_autocast else "the backward pass"
        yield _finding(
            "warning",
            f"{what} runs within `torch.autocast`",
            "end the autocast block after the loss: dedent `backward()` and `step()`, so that they run outside of it",
            "backward or step within autocast",
        )


def _finding(severity: Any, measured: str, remedy: str, limit: str) -> Finding:
    return CHECK.finding(
        severity=severity,
        where="the training step",
        measured=measured,
        limit=limit,
        why="The updates are too large or too small by orders of magnitude, or are computed in lower precision than "
        "the weights have.",
        remedy=remedy,
    )


def _use_in_step(evidence: Evidence) -> _ScalerUse:
    """What one step of the optimizer calls, on a replica. Raises NoEvidence where it uses neither a GradScaler nor
    autocast around backward or step."""
    if evidence.setup.own_step:
        raise NoEvidence("the doctor uses its own step")
    use = _ScalerUse()
    watched = Change(around=lambda _, __, optimizer, ___: _watching(use, optimizer))
    batch = evidence.train.raw[0]
    steps = 1 if evidence.trial.rows and evidence.trial.rows[0].steps else 8
    run_trial(evidence.setup, [batch], steps, evidence.clock.until(0.1), watched)
    if not any(use.calls.values()) and not use.backward_in_autocast and not use.step_in_autocast:
        raise NoEvidence("the step uses no GradScaler, and autocast only around the forward pass")
    return use


@contextmanager
def _watching(use: _ScalerUse, optimizer: Any) -> Iterator[None]:
    originals = {name: getattr(GradScaler, name) for name in _METHODS}

    def method(name: str) -> Any:
        def called(self: Any, *args: Any, **kwargs: Any) -> Any:
            use.calls[name] += 1
            use.inside += 1
            use.scale = float(self.get_scale()) if self.is_enabled() else 1.0
            try:
                return originals[name](self, *args, **kwargs)
            finally:
                use.inside -= 1

        return called

    backward = torch.autograd.backward

    def recorded_backward(*args: Any, **kwargs: Any) -> Any:
        use.backward_in_autocast |= _in_autocast()
        return backward(*args, **kwargs)

    def stepping() -> None:
        use.bare_steps += not use.inside
        use.step_in_autocast |= _in_autocast()

    with ExitStack() as stack:
        for name in _METHODS:
            setattr(GradScaler, name, method(name))
            stack.callback(setattr, GradScaler, name, originals[name])
        torch.autograd.backward = recorded_backward
        stack.callback(setattr, torch.autograd, "backward", backward)
        stack.enter_context(optimizer_steps(optimizer, stepping))
        yield


def _in_autocast() -> bool:
    return any(torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda"))


CHECK = Check(
    codes=(CODE,),
    run=_run,
    explains="optim.clip-order optim.lr-too-high optim.lr-too-low loss.not-finite optim.low-precision fit.* "
    "optim.weight-decay-too-high speed.slow-plan optim.no-step model.dead-units model.collapsed model.saturated",
)
