"""Numeric targets that the step scales before it calls the loss; predictions are in the scaled unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from striate.doctor.setup.batch import main_tensor, parts

if TYPE_CHECKING:
    from striate.doctor.evidence.evidence import Evidence

_FEWEST = 8
_LEFT, _ROUNDED = 1e-6, 1e-4
"""Largest share of the variance that a linear scale may leave unexplained; difference of a scale from 1, or of an
offset from 0 in standard deviations, that rounding may cause."""


@dataclass(frozen=True)
class TargetScale:
    """The linear scale of targets: the loss receives `times * targets + plus`."""

    times: torch.Tensor
    """(K,) factor of each column."""
    plus: torch.Tensor
    """(K,) offset of each column."""

    def of(self, targets: torch.Tensor) -> torch.Tensor:
        """The loader's targets (N, …), scaled."""
        scaled = targets.double().flatten(1) * self.times + self.plus if targets.ndim > 1 else self._of_one(targets)
        return scaled.reshape(targets.shape).to(targets.dtype)

    def _of_one(self, targets: torch.Tensor) -> torch.Tensor:
        return targets.double() * self.times[0] + self.plus[0]


def target_scale(evidence: Evidence) -> TargetScale | None:
    """How the step scales numeric targets before it calls the loss, as `(y - mean) / std`; None where it does not scale
    them, or changes them in another way."""
    given = main_tensor(parts(evidence.train.raw[0])[1])
    received = evidence.first.loss_targets
    known = [received] if isinstance(received, torch.Tensor) else [call.target for call in evidence.calls.losses]
    if given is None or not given.is_floating_point() or len(given) < _FEWEST:
        return None
    for target in known:
        if target.is_floating_point() and target.ndim and target.numel() == given.numel() and len(target) == len(given):
            return _between(given.detach().cpu().double(), target.detach().cpu().double())
    return None


def _between(given: torch.Tensor, scaled: torch.Tensor) -> TargetScale | None:
    x, y = given.reshape(len(given), -1), scaled.reshape(len(given), -1)
    variance, other = x.var(0, correction=0), y.var(0, correction=0)
    if not bool((variance > 0).all() and (other > 0).all()):
        return None
    times = ((x - x.mean(0)) * (y - y.mean(0))).mean(0) / variance
    plus = y.mean(0) - times * x.mean(0)
    unexplained = (y - times * x - plus).square().mean(0) / other
    plain = bool(((times - 1).abs() < _ROUNDED).all() and (plus.abs() < _ROUNDED * other.sqrt()).all())
    return None if plain or bool((unexplained > _LEFT).any()) else TargetScale(times, plus)
