"""`optim.low-precision`: are weights kept in a number format that takes up their updates?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.progress import number
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.setup.batch import mapped
from striate.doctor.setup.reached_objects import parameters_held
from striate.doctor.setup.replicas import Replica
from striate.observe.interventions import change_inputs
from striate.records import Finding
from striate.wording import several

_HALF = (torch.float16, torch.bfloat16)
_BETTER, _LOST = 1.15, 0.5
_STEPS, _MOST_LOST = 12, 0.8


def _run(evidence: Evidence) -> Iterator[Finding]:
    """Trials with the weights as they are, and with all of them in float32."""
    held = parameters_held(evidence.fresh.optimizer)
    half = [p for p in evidence.fresh.model.parameters() if p.dtype in _HALF and p.requires_grad and id(p) in held]
    trial = evidence.trial
    if not half or not trial.rows:
        return
    whole = evidence.variant("weights in float32", Change(prepare=_to_float32))
    lost, broken = max(_unchanged(trial), _rounded_away(evidence)), not all(map(math.isfinite, trial.losses[-10:]))
    tried = whole.error is None and bool(whole.rows)
    if not (math.isfinite(whole.level()) if tried else broken and any(p.dtype == torch.float16 for p in half)):
        return
    better = broken or whole.level() * _BETTER < trial.level()
    if not better and lost < _LOST:
        return
    kind = str(half[0].dtype).removeprefix("torch.")
    device = evidence.setup.device.type
    yield Finding(
        code="optim.low-precision",
        severity="error" if broken or _little(evidence) else "warning",
        where="the weights",
        measured=f"{several(len(half), 'parameter')} that the optimizer updates have the type {kind}: after "
        f"{several(len(trial.rows), 'step')} {lost:.0%} of their numbers are what they were, or stay so in a step"
        f"{_in_float32(trial, whole, broken) if tried else ', and the loss is NaN or Inf'}",
        threshold=LOW_PRECISION.threshold,
        why=f"{'A float16' if kind == 'float16' else 'A bfloat16'} weight has {11 if kind == 'float16' else 8} binary "
        "digits: a smaller step is rounded away, and Adam's eps of 1e-8 is zero in float16.",
        remedy=f"keep the weights in float32, `model.float()`, and compute in half precision: "
        f'`with torch.autocast("{device}", dtype=torch.bfloat16):` around forward and loss (float16 with a '
        "`torch.amp.GradScaler()`)",
    )


def _in_float32(trial: Trial, whole: Trial, broken: bool) -> str:
    if not broken and whole.level() >= trial.level():
        return ""
    own = "NaN or Inf" if broken else number(trial.level())
    return f", and the loss is {own}; with float32 weights it is {number(whole.level())}"


def _little(evidence: Evidence) -> bool:
    try:
        return evidence.progress.share < 0.1
    except NoEvidence:
        return True


def _unchanged(trial: Trial) -> float:
    """The share of numbers of half precision that no step has changed."""
    now, same, count = dict(trial.replica.model.named_parameters()), 0, 0
    for name, original in trial.replica.originals.items():
        if original.dtype in _HALF and original.requires_grad and name in now:
            same += int((now[name].detach() == original.detach()).sum())
            count += original.numel()
    return same / max(count, 1)


def _rounded_away(evidence: Evidence) -> float:
    """The share of numbers of half precision with a gradient that a step leaves as they are, in the middle of a few; 0
    where that is less than most of them."""
    shares: list[float] = []

    def prepare(replica: Replica) -> None:
        half = [p for p in replica.model.parameters() if p.dtype in _HALF and p.requires_grad]
        before: list[torch.Tensor] = []

        def begin(*_: Any) -> None:
            before[:] = [p.detach().clone() for p in half]

        def end(*_: Any) -> None:
            moved = [(a == p.detach())[p.grad != 0] for a, p in zip(before, half, strict=True) if p.grad is not None]
            if moved and sum(map(len, moved)):
                shares.append(float(torch.cat(moved).double().mean()))

        replica.optimizer.register_step_pre_hook(begin)
        replica.optimizer.register_step_post_hook(end)

    evidence.variant("weights watched", Change(prepare=prepare), steps=_STEPS)
    share = sorted(shares)[len(shares) // 2] if shares else 0.0
    return share if share >= _MOST_LOST else 0.0


def _to_float32(replica: Replica) -> None:
    replica.model.float()
    for state in replica.optimizer.state.values():
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and value.dtype in _HALF:
                state[key] = value.float()
    change_inputs(replica.model, lambda args: mapped(args, _float))


def _float(_: Any, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in _HALF else tensor


LOW_PRECISION = Check(
    codes=("optim.low-precision",),
    question="Are weights kept in a number format that takes up their updates?",
    threshold=f"weights in float16 or bfloat16 whose loss is not finite, or {_BETTER:g} times lower once they are in "
    f"float32, or of whose numbers {_LOST:.0%} never change, or {_MOST_LOST:.0%} of those with a gradient not in "
    "a step",
    run=_run,
    quick=False,
    explains="loss.not-finite loss.degenerate model.collapsed model.dead-units optim.lr-too-high optim.lr-too-low "
    "optim.no-step optim.clip-too-small fit.*",
)
