"""Whether answers computed in another way are those of plain fp32."""

from __future__ import annotations

import torch

from striate.inference.plan import AnswerAgreement
from striate.tasks.protocol import Task


def compare_answers(task: Task, reference: torch.Tensor, outputs: torch.Tensor) -> AnswerAgreement:
    """Outputs (N, …) of a way against those of plain fp32 (`reference`, of the same samples), as the task reads them.

    Where fp32 answers and the way gives no number, nothing agrees. Of classes the most probable one is compared.
    """
    if outputs.shape != reference.shape:
        return AnswerAgreement(len(reference), 0.0, float("inf"), float("inf"))
    reference, outputs = reference.float(), outputs.float()
    rounding = float((outputs - reference).abs().max() / reference.abs().max().clamp(min=1e-30))
    right, other = task.decode(reference), task.decode(outputs)
    count = len(reference)
    if not right.is_floating_point():
        return AnswerAgreement(count, float((right == other).float().mean()), 0.0, rounding)
    if task.name == "classify":
        equal = float((right.argmax(1) == other.argmax(1)).float().mean())
        return AnswerAgreement(count, equal, float((right - other).abs().sum(1).mean() / 2), rounding)
    return AnswerAgreement(count, None, _relative_error(right, other), rounding)


def _relative_error(right: torch.Tensor, other: torch.Tensor) -> float:
    """The root mean square of the difference over the standard deviation of the right answers, of the worst column;
    where a column is constant, over its size."""
    error = (other - right).double().square().mean(0).sqrt()
    spread = right.double().std(0, correction=0)
    size = right.double().abs().amax(0)
    scale = torch.where(spread > 1e-6 * size, spread, size).clamp(min=1e-30)
    return float((error / scale).max())
