"""How far a trial reduced the loss: from that of a constant prediction, or its first loss, towards zero."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from striate.doctor.evidence.calls import LossCall, StepCalls
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.trial import Trial

MOST_BATCHES = 16
_SMALL = 1e-6
_ALL = 0.01
"""Share of the loss below which other terms are ignored."""


@dataclass(frozen=True)
class Progress:
    """How far the loss of a trial fell."""

    start: float
    """The first loss."""
    chance: float
    """Loss of the best constant prediction; the first loss where that is unknown."""
    level: float
    """Mean of the last quarter of the losses, five at least; infinite where one of these, or of the last 20, is NaN or
    Inf."""
    steps: int
    """Number of steps."""
    floor: float = 0.0
    """The lowest possible loss; above zero where labels are smoothed."""

    @property
    def share(self) -> float:
        """The share of the way from the loss of chance to the lowest loss: 0 at chance, 1 at the lowest, negative above
        chance."""
        return 1 - (self.level - self.floor) / (self.chance - self.floor)

    def beats(self, other: Progress, times: float) -> bool:
        """Whether the loss, minus the lowest, is smaller than that of `other` by the factor `times`."""
        return math.isfinite(self.level) and (self.level - self.floor) * times < other.level - other.floor

    def __str__(self) -> str:
        return number(self.level)


def number(value: float) -> str:
    """A loss in three digits; `NaN or Inf` where it is not finite."""
    return f"{value:.3g}" if math.isfinite(value) else "NaN or Inf"


def progress_of(trial: Trial, chance: float | None = None, start: float | None = None, floor: float = 0.0) -> Progress:
    """How far a trial reduced the loss. `start`: a first loss in place of the trial's. `floor`: the lowest possible
    loss.

    Raises NoEvidence where steps return no loss, or a negative one, which has no known lower bound."""
    losses = trial.losses
    if not losses or (trial.error is not None and len(losses) < 10):
        raise NoEvidence("the training steps fail")
    first = losses[0] if start is None else start
    if not math.isfinite(first):
        raise NoEvidence("the first step returns no finite loss")
    if first <= 0 or min(losses) < 0:
        raise NoEvidence("the loss can fall below zero")
    tail = losses[-max(5, len(losses) // 4) :]
    level = sum(tail) / len(tail)
    if not math.isfinite(level) or any(not math.isfinite(loss) for loss in losses[-20:]):
        level = math.inf
    known = chance if chance is not None and chance > _SMALL else first
    return Progress(first, known, level, len(losses), floor if floor < known else 0.0)


def floor_of(calls: StepCalls, first: float) -> float:
    """The lowest possible loss: the entropy of smoothed labels where the loss is a cross entropy with label smoothing,
    else 0. `first`: the first loss of the trial. 0 also where the loss has other terms."""
    shares, floors = 0.0, 0.0
    for call in calls.losses:
        value, classes = float(call.value.double().mean()), call.input.shape[1] if call.input.ndim > 1 else 0
        plain = call.weight is None and not call.target.is_floating_point()
        if call.name != "cross_entropy" or not call.smoothing or not plain or classes < 2 or not value > 0:
            return 0.0
        wrong = call.smoothing / classes
        right = 1 - call.smoothing + wrong
        entropy = -right * math.log(right) - (classes - 1) * wrong * math.log(wrong)
        counted = call.target != call.ignored
        lowest = {"mean": 1.0, "sum": float(counted.sum())}.get(call.reduction, float(counted.double().mean()))
        shares, floors = shares + call.share, floors + call.share * entropy * lowest / value
    whole = sum(calls.backward)
    return first * floors / whole if whole > 0 and math.isclose(shares, whole, rel_tol=_ALL) else 0.0


def chance_of(trial: Trial, targets: torch.Tensor | None) -> float | None:
    """The loss of the best constant prediction, averaged over batches of the first one's size; None where it cannot be
    computed. `targets`: (N, …) those of many batches; where None, or where the loss receives other targets, those of
    the first batch are used.

    Where a step returns a multiple of the loss, or a sum of several losses, the result is scaled by the same factor.
    """
    outputs, first = trial.first.loss_outputs, trial.first.loss_targets
    if not isinstance(outputs, torch.Tensor) or not isinstance(first, torch.Tensor) or not first.numel():
        return None
    own = _value(trial, outputs, first)
    batches = _batches_like(first, targets)
    if not outputs.ndim or len(outputs) != len(first):
        batches = [first]
    found = []
    for prediction in _constant_predictions(outputs, torch.cat(batches) if first.ndim else first):
        values = [_value(trial, prediction.expand_as(outputs).clone(), batch) for batch in batches]
        found.append(sum(values) / len(values))
    best = min((value for value in found if math.isfinite(value)), default=None)
    if best is None or not trial.losses or not math.isfinite(own) or own <= _SMALL:
        return best
    return best * trial.losses[0] / own if math.isfinite(trial.losses[0]) else best


def chance_of_call(call: LossCall, loss: float, targets: torch.Tensor | None) -> float | None:
    """The loss of the best constant prediction where a network computes its own loss with one of torch's losses.
    `call`: the call in the first step; `loss`: the first step's loss. None where the two differ, or the call has more
    arguments than outputs, targets and reduction."""
    outputs, first = call.input, call.target
    if not first.numel() or not outputs.ndim or len(outputs) != len(first):
        return None

    def value(prediction: torch.Tensor, target: torch.Tensor) -> float:
        found = getattr(functional, call.name)(prediction.clone(), target, reduction=call.reduction)
        return float(found.float().mean())

    try:
        if not all(math.isclose(own, loss, rel_tol=1e-3) for own in (value(outputs, first), float(call.value.mean()))):
            return None
        batches = _batches_like(first, targets)
        found = [
            sum(value(prediction.expand_as(outputs), batch) for batch in batches) / len(batches)
            for prediction in _constant_predictions(outputs, torch.cat(batches))
        ]
    except (RuntimeError, ValueError, IndexError):  # the call was given more than the prediction and the target
        return None
    return min((one for one in found if math.isfinite(one) and one > _SMALL), default=None)


def _batches_like(first: torch.Tensor, targets: torch.Tensor | None) -> list[torch.Tensor]:
    """The targets in batches of the first one's size; only the first batch where `targets` do not begin with it."""
    if targets is None or not first.ndim or targets.shape[1:] != first.shape[1:] or len(targets) < len(first):
        return [first]
    given = targets.to(first.device, first.dtype)
    if not torch.equal(given[: len(first)], first):
        return [first]
    return [batch for batch in given.split(len(first)) if len(batch) == len(first)][:MOST_BATCHES]


def _value(trial: Trial, outputs: torch.Tensor, targets: torch.Tensor) -> float:
    try:
        with torch.no_grad():
            # Without reduction, the loss is the mean.
            return float(trial.loss(outputs.clone(), targets.clone()).float().mean())
    except Exception:  # the user's loss may need other arguments
        return math.nan


def _constant_predictions(outputs: torch.Tensor, targets: torch.Tensor) -> Iterator[torch.Tensor]:
    """Constant predictions that may be the best one, which expand to the shape of the outputs."""
    targets = targets.to(outputs.device)
    if not targets.is_floating_point() and outputs.ndim == targets.ndim + 1 and outputs.shape[1] > 1:
        known = targets.reshape(-1).clamp(0, outputs.shape[1] - 1).long()
        counts = torch.bincount(known, minlength=outputs.shape[1]) + 0.1
        log_shares = (counts / counts.sum()).log().to(outputs.dtype)
        yield log_shares.reshape(1, -1, *[1] * (outputs.ndim - 2))  # valid both as logits and as log probabilities
        return
    if targets.numel() == len(targets) and outputs.numel() == len(outputs):
        mean = targets.to(outputs.dtype).mean()
    elif targets.ndim and targets.shape[1:] == outputs.shape[1:]:
        mean = targets.to(outputs.dtype).mean(0, keepdim=True)
    else:
        return
    yield mean
    if bool(((targets >= 0) & (targets <= 1)).all()):
        inner = mean.clamp(1e-3, 1 - 1e-3)
        yield (inner / (1 - inner)).log()
    elif bool((targets >= 0).all()):
        yield mean.clamp_min(1e-3).log()  # for Poisson losses, which take logarithms
