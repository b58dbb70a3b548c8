"""Forecasts of several quantiles: which ones a loss asks for, by the gradient that comes back to the outputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.trial import Change, run_trial
from striate.doctor.setup.batch import copied, main_tensor
from striate.doctor.setup.replicas import Replica
from striate.observe.gradients import on_gradient
from striate.observe.interventions import change_output

_FEWEST, _MOST = 2, 32
_ALIKE = 1e-3


@dataclass(frozen=True)
class Quantiles:
    """Predicted quantiles, and which way the loss pulls them."""

    outputs: torch.Tensor
    """(N, …, K), the quantiles last."""
    up: torch.Tensor
    """(K,) absolute gradient of outputs that are too low; 0 where no output is."""
    down: torch.Tensor
    """(K,) absolute gradient of outputs that are too high; 0 where no output is."""

    @property
    def asked(self) -> torch.Tensor | None:
        """The quantiles (K,); None where all outputs lie on one side."""
        known = bool((self.up > 0).all() and (self.down > 0).all())
        return self.up / (self.up + self.down) if known else None


def quantiles_asked(evidence: Evidence) -> Quantiles | None:
    """Those of the first batch; None where the gradient by the network's outputs is not that of a pinball loss
    (Koenker & Bassett 1978): two values a column, one for each side, that differ by column."""
    seen: list[tuple[torch.Tensor, list[torch.Tensor]]] = []

    def note(_: object, given: object) -> None:
        outputs = main_tensor(given)
        if outputs is not None and outputs.requires_grad:
            seen.append((outputs.detach(), []))
            on_gradient(outputs, seen[-1][1].append)

    def prepare(replica: Replica) -> None:
        change_output(replica.model, note)

    batch = copied(evidence.train.raw[0])
    run_trial(evidence.setup, [batch], 1, evidence.clock.until(0.1), Change(prepare=prepare), close=False)
    if len(seen) != 1 or len(seen[0][1]) != 1:
        return None
    outputs, gradient = (tensor.detach().cpu().double() for tensor in (seen[0][0], seen[0][1][0]))
    for axis in range(outputs.ndim - 1, 0, -1):
        if _FEWEST <= outputs.shape[axis] <= _MOST:
            by = gradient.movedim(axis, -1).flatten(0, -2)
            sides = [_sizes((sign * by).clamp_min(0)) for sign in (-1, 1)]
            if all(one is not None for one in sides):
                up, down = (one for one in sides if one is not None)
                sizes = torch.maximum(up, down)
                if float(sizes.max()) > (1 + _ALIKE) * float(sizes.min()):
                    return Quantiles(outputs.movedim(axis, -1), up, down)
    return None


def _sizes(values: torch.Tensor) -> torch.Tensor | None:
    """The one number above zero that each column (N, K) has beside zeros; 0 where it has none, None where several."""
    largest = values.amax(0)
    least = torch.where(values > 0, values, torch.full_like(values, torch.inf)).amin(0)
    return largest if bool(((largest == 0) | (largest <= (1 + _ALIKE) * least)).all()) else None
