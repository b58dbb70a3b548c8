"""Whether the predictions of a backend agree with those of plain fp32."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch

from striate.inference.plan import PredictionAgreement


class ReadsOutputs(Protocol):
    """Compares outputs: implemented by tasks."""

    @property
    def name(self) -> str:
        """Name of the task."""
        ...

    def agreement(self, reference: torch.Tensor, outputs: torch.Tensor) -> PredictionAgreement:
        """How far `outputs` (N, …) agree with `reference`, of the same shape."""
        ...


def compare_predictions(task: ReadsOutputs, reference: torch.Tensor, outputs: torch.Tensor) -> PredictionAgreement:
    """The agreement of outputs (N, …) of a backend with those of plain fp32 (`reference`) for the same samples. NaN
    agrees with nothing."""
    if outputs.shape != reference.shape:
        return PredictionAgreement(len(reference), 0.0, float("inf"), float("inf"))
    reference, outputs = reference.float(), outputs.float()
    return replace(task.agreement(reference, outputs), rounding=relative_error(outputs, reference))


def relative_error(outputs: torch.Tensor, reference: torch.Tensor) -> float:
    """L2 norm of the difference over that of the reference; 0 where nothing differs, Inf for different shapes."""
    if outputs.shape != reference.shape:
        return float("inf")
    error = float(torch.linalg.vector_norm((outputs - reference).float()))
    return error / max(float(torch.linalg.vector_norm(reference.float())), 1e-6) if error else 0.0


def agreement_of_labels(right: torch.Tensor, other: torch.Tensor) -> PredictionAgreement:
    """The agreement of class numbers (N, …): the share of equal ones."""
    return PredictionAgreement(len(right), float((right == other).float().mean()), 0.0, 0.0)


def agreement_of_classes(right: torch.Tensor, other: torch.Tensor, equal: float) -> PredictionAgreement:
    """The agreement of class probabilities (N, K): the given share of `equal` classes, and the mean total variation."""
    return PredictionAgreement(len(right), equal, float((right - other).abs().sum(1).mean() / 2), 0.0)


def agreement_of_numbers(right: torch.Tensor, other: torch.Tensor) -> PredictionAgreement:
    """The agreement of numbers (N, …): for the worst column, the root mean square of the difference over the standard
    deviation of the reference, or over its size where the column is constant."""
    error = (other - right).double().square().mean(0).sqrt()
    deviation = right.double().std(0, correction=0)
    size = right.double().abs().amax(0)
    scale = torch.where(deviation > 1e-6 * size, deviation, size).clamp(min=1e-30)
    return PredictionAgreement(len(right), None, float((error / scale).max()), 0.0)
