"""Forecasts of several quantiles: the levels that the loss trains, by its gradient by the outputs."""

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
    """Predicted quantiles, and the gradient of the loss by them."""

    outputs: torch.Tensor
    """(N, …, K), the quantiles last."""
    up: torch.Tensor
    """(K,) absolute gradient of outputs that are too low; 0 where no output is."""
    down: torch.Tensor
    """(K,) absolute gradient of outputs that are too high; 0 where no output is."""

    @property
    def levels(self) -> torch.Tensor | None:
        """(K,) the quantile levels, 0 to 1; None where no output is too low, or none too high, for one of them."""
        known = bool((self.up > 0).all() and (self.down > 0).all())
        return self.up / (self.up + self.down) if known else None


def trained_quantiles(evidence: Evidence) -> Quantiles | None:
    """The quantiles that the network predicts for the first batch; None where the gradient by its outputs is not that
    of a pinball loss (Koenker & Bassett 1978): two values for each column, one for each sign, which differ by
    column."""
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
    """(K,) the only positive value of each column of (N, K), 0 for a column of zeros; None where a column has
    several."""
    largest = values.amax(0)
    least = torch.where(values > 0, values, torch.full_like(values, torch.inf)).amin(0)
    return largest if bool(((largest == 0) | (largest <= (1 + _ALIKE) * least)).all()) else None
