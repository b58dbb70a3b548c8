"""Targets of -1 and 1 that ask for the sign of a score, as those of support vector machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.substituted_outputs import loss_of
from striate.doctor.setup.batch import main_tensor, parts

if TYPE_CHECKING:
    from striate.doctor.evidence.evidence import Evidence

_FAR = 10


def wants_signs(evidence: Evidence) -> bool:
    """Whether targets are -1 and 1, one a sample, and scores that are ten times as large cost no more: those of a
    margin do, and errors squared or absolute do not, nor distances."""
    y, signs = evidence.train.y, main_tensor(parts(evidence.train.raw[0])[1])
    if y is None or signs is None or y.numel() != len(y) or y.unique().tolist() != [-1, 1]:
        return False

    def cost(size: int) -> float:
        def answer(_: int, tensor: torch.Tensor) -> torch.Tensor:
            return (size * signs).reshape(tensor.shape) if tensor.numel() == signs.numel() else tensor

        return loss_of(evidence, answer)

    try:
        return cost(_FAR) <= cost(1) < cost(-1)
    except NoEvidence:
        return False
