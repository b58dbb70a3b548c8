"""Targets that the step scales before the loss gets them: predictions are of what the loss is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from striate.doctor.setup.batch import main_tensor, parts

if TYPE_CHECKING:
    from striate.doctor.evidence.evidence import Evidence

_FEWEST = 8
_LEFT, _ROUNDED = 1e-6, 1e-4
"""Of the variance, that no scale explains; and of a scale from 1, or of a shift from 0 in deviations."""


@dataclass(frozen=True)
class TargetScale:
    """What the loss is given is `times` the loader's targets, plus `plus`, by column (K,)."""

    times: torch.Tensor
    plus: torch.Tensor

    def of(self, targets: torch.Tensor) -> torch.Tensor:
        """The loader's targets (N, …) as the loss is given them."""
        scaled = targets.double().flatten(1) * self.times + self.plus if targets.ndim > 1 else self._of_one(targets)
        return scaled.reshape(targets.shape).to(targets.dtype)

    def _of_one(self, targets: torch.Tensor) -> torch.Tensor:
        return targets.double() * self.times[0] + self.plus[0]


def target_scale(evidence: Evidence) -> TargetScale | None:
    """By what the step scales quantities before the loss gets them, as `(y - mean) / std`; None where it does not, or
    does something else with them."""
    given = main_tensor(parts(evidence.train.raw[0])[1])
    asked = evidence.first.loss_targets
    known = [asked] if isinstance(asked, torch.Tensor) else [call.target for call in evidence.calls.losses]
    if given is None or not given.is_floating_point() or len(given) < _FEWEST:
        return None
    for wanted in known:
        if wanted.is_floating_point() and wanted.ndim and wanted.numel() == given.numel() and len(wanted) == len(given):
            return _between(given.detach().cpu().double(), wanted.detach().cpu().double())
    return None


def _between(given: torch.Tensor, asked: torch.Tensor) -> TargetScale | None:
    x, y = given.reshape(len(given), -1), asked.reshape(len(given), -1)
    spread, other = x.var(0, correction=0), y.var(0, correction=0)
    if not bool((spread > 0).all() and (other > 0).all()):
        return None
    times = ((x - x.mean(0)) * (y - y.mean(0))).mean(0) / spread
    plus = y.mean(0) - times * x.mean(0)
    left = (y - times * x - plus).square().mean(0) / other
    plain = bool(((times - 1).abs() < _ROUNDED).all() and (plus.abs() < _ROUNDED * other.sqrt()).all())
    return None if plain or bool((left > _LEFT).any()) else TargetScale(times, plus)
