"""Targets of -1 and 1 for the sign of a score, as for support vector machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.substituted_outputs import loss_of
from striate.doctor.setup.batch import main_tensor, parts

if TYPE_CHECKING:
    from striate.doctor.evidence.evidence import Evidence

_FAR = 10


def targets_are_signs(evidence: Evidence) -> bool:
    """Whether each sample has a target of -1 or 1, and scores that are ten times as large do not increase the loss.
    That holds for margin losses, but not for squared or absolute errors."""
    y, signs = evidence.train.y, main_tensor(parts(evidence.train.raw[0])[1])
    if y is None or signs is None or y.numel() != len(y) or y.unique().tolist() != [-1, 1]:
        return False

    def cost(size: int) -> float:
        def substitute(_: int, tensor: torch.Tensor) -> torch.Tensor:
            return (size * signs).reshape(tensor.shape) if tensor.numel() == signs.numel() else tensor

        return loss_of(evidence, substitute)

    try:
        return cost(_FAR) <= cost(1) < cost(-1)
    except NoEvidence:
        return False
