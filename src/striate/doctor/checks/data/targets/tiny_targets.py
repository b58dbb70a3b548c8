"""Quantities far smaller than what the network gives at first: the loss looks tiny while errors are larger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from striate.doctor.evidence.calls import LossCall
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.quality import root_mean_square
from striate.doctor.evidence.trial import Change, Trial
from striate.doctor.setup.batch import leaves, mapped

TINY = 100.0
"""Times as large as the targets are the first outputs."""
LEFT, LEFT_SCALED = 1.0, 0.8
"""Of the loss of one number for all samples, after the trial, and with targets of variance 1."""
_PROPORTIONAL, _FEWEST = 1e-4, 16
_COMPARING: dict[str, Any] = {
    "mse_loss": functional.mse_loss,
    "l1_loss": functional.l1_loss,
    "smooth_l1_loss": functional.smooth_l1_loss,
    "huber_loss": functional.huber_loss,
}


@dataclass(frozen=True)
class Tiny:
    """Root mean squares of targets and of the first outputs, and the loss after `steps` as a share of that of one
    number for all samples, as it is and with targets of variance 1."""

    size: float
    given: float
    steps: int
    own: float
    other: float


def tiny_targets(evidence: Evidence) -> Tiny | None:
    """Where a loss compares outputs with much smaller quantities of the batch, and the network tells nothing of them,
    but much of the same ones scaled up; None elsewhere."""
    losses = evidence.calls.losses
    call = losses[0] if len(losses) == 1 else None
    if call is None or call.name not in _COMPARING or call.reduction != "mean" or call.input.shape != call.target.shape:
        return None
    target, trial = call.target.double(), evidence.trial
    size, given = root_mean_square(target), root_mean_square(call.input)
    spread = float(target.std()) if target.numel() >= _FEWEST else 0.0
    alone = trial.rows and abs(trial.losses[0] - float(call.value)) <= 0.1 * float(call.value)
    if not spread > 0 or size * TINY > given or not alone or trial.error is not None or trial.diverged:
        return None
    own = _left(trial, call, 1.0)
    batches = [_scaled(batch, call.target, 1 / spread, evidence.train.raw[0]) for batch in evidence.train.raw]
    if own < LEFT or any(batch is None for batch in batches):
        return None
    scaled = evidence.variant("targets scaled up", Change(), batches=batches)
    other = _left(scaled, call, 1 / spread)
    if scaled.error is not None or not other <= LEFT_SCALED:
        return None
    return Tiny(size, given, len(trial.rows), own, other)


def _left(trial: Trial, call: LossCall, times: float) -> float:
    """The loss in the end as a share of that of one number for all samples."""
    target = call.target.double() * times
    guess = target.mean(0, keepdim=True).expand_as(target)
    return trial.level() / max(float(_COMPARING[call.name](guess, target)), 1e-300)


def _scaled(batch: Any, target: torch.Tensor, times: float, first: Any) -> Any:
    """The batch with what the loss is asked for in the first one, or in proportion to it, `times` as large; None where
    no part of it is that."""
    wanted = target.cpu().double().flatten()
    paths = set()
    for path, tensor in leaves(first):
        if tensor.is_floating_point() and tensor.numel() == wanted.numel():
            part = tensor.cpu().double().flatten()
            left = part - wanted * (part @ wanted) / (wanted @ wanted)
            if float(left.norm()) <= _PROPORTIONAL * float(part.norm()):
                paths.add(path)
    return mapped(batch, lambda path, part: part * times if path in paths else part) if paths else None
