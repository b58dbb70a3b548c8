"""Targets far smaller than the first outputs: the loss looks small, although errors are larger than the targets."""

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
"""The least ratio of first outputs to targets."""
LEFT, LEFT_SCALED = 1.0, 0.8
"""Losses as shares of that of a constant prediction: the least after the trial, and the largest with targets of
variance 1."""
_PROPORTIONAL, _FEWEST = 1e-4, 16
_COMPARING: dict[str, Any] = {
    "mse_loss": functional.mse_loss,
    "l1_loss": functional.l1_loss,
    "smooth_l1_loss": functional.smooth_l1_loss,
    "huber_loss": functional.huber_loss,
}


@dataclass(frozen=True)
class TinyTargets:
    """Targets far smaller than the first outputs, and losses of trials."""

    size: float
    """Root mean square of the targets."""
    given: float
    """Root mean square of the first outputs."""
    steps: int
    """Steps of the trials."""
    own: float
    """Final loss as a share of that of a constant prediction."""
    other: float
    """The same with targets of variance 1."""


def tiny_targets(evidence: Evidence) -> TinyTargets | None:
    """Targets of the batch far smaller than the outputs, if the network learns nothing of them, but much once they are
    scaled up; else None."""
    losses = evidence.calls.losses
    call = losses[0] if len(losses) == 1 else None
    if call is None or call.name not in _COMPARING or call.reduction != "mean" or call.input.shape != call.target.shape:
        return None
    target, trial = call.target.double(), evidence.trial
    size, given = root_mean_square(target), root_mean_square(call.input)
    deviation = float(target.std()) if target.numel() >= _FEWEST else 0.0
    alone = trial.rows and abs(trial.losses[0] - float(call.value)) <= 0.1 * float(call.value)
    if not deviation > 0 or size * TINY > given or not alone or trial.error is not None or trial.diverged:
        return None
    own = _final_loss(trial, call, 1.0)
    batches = [_scaled(batch, call.target, 1 / deviation, evidence.train.raw[0]) for batch in evidence.train.raw]
    if own < LEFT or any(batch is None for batch in batches):
        return None
    scaled = evidence.variant("targets scaled up", Change(), batches=batches)
    other = _final_loss(scaled, call, 1 / deviation)
    if scaled.error is not None or not other <= LEFT_SCALED:
        return None
    return TinyTargets(size, given, len(trial.rows), own, other)


def _final_loss(trial: Trial, call: LossCall, times: float) -> float:
    """The final loss as a share of that of a constant prediction."""
    target = call.target.double() * times
    guess = target.mean(0, keepdim=True).expand_as(target)
    return trial.level() / max(float(_COMPARING[call.name](guess, target)), 1e-300)


def _scaled(batch: Any, target: torch.Tensor, times: float, first: Any) -> Any:
    """The batch with its targets (the parts that are proportional to the targets of the loss in the `first` batch)
    times `times`; None if it contains none."""
    flat = target.cpu().double().flatten()
    paths = set()
    for path, tensor in leaves(first):
        if tensor.is_floating_point() and tensor.numel() == flat.numel():
            part = tensor.cpu().double().flatten()
            left = part - flat * (part @ flat) / (flat @ flat)
            if float(left.norm()) <= _PROPORTIONAL * float(part.norm()):
                paths.add(path)
    return mapped(batch, lambda path, part: part * times if path in paths else part) if paths else None
