"""How far a trial came: from its first loss, or from what a constant answer gives, towards zero."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.trial import Trial

_SMALL = 1e-6


@dataclass(frozen=True)
class Progress:
    """`start`: the first loss. `chance`: the loss of the best constant answer; the first loss where that is not known.
    `level`: the mean of the last quarter of the losses, infinite where one was not a number. `steps`: how many."""

    start: float
    chance: float
    level: float
    steps: int

    @property
    def reference(self) -> float:
        """The smaller of the loss at the start and that of a constant answer."""
        return min(self.start, self.chance)

    @property
    def share(self) -> float:
        """The part of the way from the reference to zero: 0 none of it, 1 all, negative where it got worse."""
        return 1 - self.level / self.reference

    def beats(self, other: Progress, times: float) -> bool:
        """Whether this one's loss is so many times smaller than the other's."""
        return math.isfinite(self.level) and self.level * times < other.level

    def __str__(self) -> str:
        return number(self.level)


def number(value: float) -> str:
    """A loss in three digits; `not a number` where it grew out of all bounds."""
    return f"{value:.3g}" if math.isfinite(value) else "not a number"


def progress_of(trial: Trial, chance: float | None = None, start: float | None = None) -> Progress:
    """How far a trial came. `start`: the first loss, where the trial's own is not meant.

    Raises NoEvidence where the steps tell no loss, or one that may be negative: there is no end to count from.
    """
    losses = trial.losses
    if not losses or (trial.error is not None and len(losses) < 10):
        raise NoEvidence("the training steps fail")
    first = losses[0] if start is None else start
    if not math.isfinite(first):
        raise NoEvidence("the steps tell no loss that is a number")
    if first <= 0 or min(losses) < 0:
        raise NoEvidence("the loss is not one that ends at zero")
    tail = losses[-max(5, len(losses) // 4) :]
    level = sum(tail) / len(tail)
    if not math.isfinite(level) or any(not math.isfinite(loss) for loss in losses[-20:]):
        level = math.inf
    known = chance if chance is not None and chance > _SMALL else first
    return Progress(first, known, level, len(losses))


def chance_of(trial: Trial) -> float | None:
    """The loss of the best constant answer to the targets of the first batch; None where it cannot be computed."""
    outputs, targets = trial.first.loss_outputs, trial.first.loss_targets
    if not isinstance(outputs, torch.Tensor) or not isinstance(targets, torch.Tensor) or not targets.numel():
        return None
    found = []
    for answer in _constant_answers(outputs, targets):
        try:
            with torch.no_grad():
                value = trial.loss(answer, targets.clone())
                # Of several numbers, as without reduction, the mean counts.
                found.append(float(value.float().mean()))
        except Exception:  # a loss of the user's, which may want another form
            continue
    return min((value for value in found if math.isfinite(value)), default=None)


def _constant_answers(outputs: torch.Tensor, targets: torch.Tensor) -> Iterator[torch.Tensor]:
    targets = targets.to(outputs.device)
    if not targets.is_floating_point() and outputs.ndim == targets.ndim + 1 and outputs.shape[1] > 1:
        counts = torch.bincount(targets.reshape(-1).clamp(0, outputs.shape[1] - 1), minlength=outputs.shape[1])
        log_shares = ((counts + 0.1) / (counts + 0.1).sum()).log().to(outputs.dtype)
        shape = (1, -1) + (1,) * (outputs.ndim - 2)
        yield log_shares.reshape(shape).expand_as(outputs).clone()  # right as scores and as logarithms alike
        return
    if targets.numel() == len(targets) and outputs.numel() == len(outputs):
        mean = targets.to(outputs.dtype).mean().expand_as(outputs)
    elif targets.shape == outputs.shape:
        mean = targets.to(outputs.dtype).mean(0, keepdim=True).expand_as(outputs)
    else:
        return
    yield mean.clone()
    if bool(((targets >= 0) & (targets <= 1)).all()):
        inner = mean.clamp(1e-3, 1 - 1e-3)
        yield (inner / (1 - inner)).log()
