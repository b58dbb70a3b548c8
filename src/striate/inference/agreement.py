"""Whether predictions computed in another way are those of plain fp32."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch

from striate.inference.plan import PredictionAgreement


class ReadsOutputs(Protocol):
    """What tells how far outputs are alike: a task."""

    @property
    def name(self) -> str:
        """Of the task."""
        ...

    def agreement(self, reference: torch.Tensor, outputs: torch.Tensor) -> PredictionAgreement:
        """How far the second outputs (N, …) are those of the first, of one shape."""
        ...


def compare_predictions(task: ReadsOutputs, reference: torch.Tensor, outputs: torch.Tensor) -> PredictionAgreement:
    """Outputs (N, …) of a backend against those of plain fp32 (`reference`, of the same samples).

    Where fp32 gives numbers and the backend NaN, nothing agrees.
    """
    if outputs.shape != reference.shape:
        return PredictionAgreement(len(reference), 0.0, float("inf"), float("inf"))
    reference, outputs = reference.float(), outputs.float()
    return replace(task.agreement(reference, outputs), rounding=relative_error(outputs, reference))


def relative_error(outputs: torch.Tensor, reference: torch.Tensor) -> float:
    """The L2 norm of the difference over that of the reference; 0 where nothing differs, infinite for other shapes."""
    if outputs.shape != reference.shape:
        return float("inf")
    error = float(torch.linalg.vector_norm((outputs - reference).float()))
    return error / max(float(torch.linalg.vector_norm(reference.float())), 1e-6) if error else 0.0


def agreement_of_labels(right: torch.Tensor, other: torch.Tensor) -> PredictionAgreement:
    """Of class numbers (N, …): the share that is equal."""
    return PredictionAgreement(len(right), float((right == other).float().mean()), 0.0, 0.0)


def agreement_of_classes(right: torch.Tensor, other: torch.Tensor, equal: float) -> PredictionAgreement:
    """Of class probabilities (N, K): the share of `equal` classes, and the mean total variation."""
    return PredictionAgreement(len(right), equal, float((right - other).abs().sum(1).mean() / 2), 0.0)


def agreement_of_numbers(right: torch.Tensor, other: torch.Tensor) -> PredictionAgreement:
    """Of numbers (N, …): the root mean square of the difference over the standard deviation of the right ones, of the
    worst column; where a column is constant, over its size."""
    error = (other - right).double().square().mean(0).sqrt()
    spread = right.double().std(0, correction=0)
    size = right.double().abs().amax(0)
    scale = torch.where(spread > 1e-6 * size, spread, size).clamp(min=1e-30)
    return PredictionAgreement(len(right), None, float((error / scale).max()), 0.0)
