"""Losses of embeddings that do not separate classes whose embeddings coincide."""

from __future__ import annotations

import torch
from torch.nn import functional

from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.substituted_outputs import class_numbers_matter, loss_of, step_outputs
from striate.doctor.setup.batch import main_tensor, parts

_FEWEST, _NOISE, _NOTHING = 4, 0.05, 1e-3
"""Fewest classes with two samples or more; the noise within a class, as a share of the embeddings' length; and the
largest relative difference at which losses count as equal."""


def classes_together(evidence: Evidence) -> str | None:
    """What was measured, of a loss that depends on which labels are equal, but is as small where pairs of classes
    coincide as where all classes are apart; None for other losses."""
    if predicts_targets(evidence):
        return None
    labels = main_tensor(parts(evidence.train.raw[0])[1])
    if labels is None or labels.ndim != 1 or labels.is_floating_point():
        return None
    _, numbers, counts = labels.detach().cpu().unique(return_inverse=True, return_counts=True)
    classes = len(counts)
    if classes < _FEWEST or int((counts > 1).sum()) < _FEWEST:
        return None
    try:
        outputs = [tensor for tensor in step_outputs(evidence) if tensor.is_floating_point()]
        fits = len(outputs) == 1 and outputs[0].ndim == 2 and len(outputs[0]) == len(labels)
        if not fits or classes > outputs[0].shape[1] or not evidence.targets_matter or class_numbers_matter(evidence):
            return None
        alone, paired, together = (
            _loss_of_places(evidence, places) for places in (numbers, numbers // 2, torch.zeros_like(numbers))
        )
    except OutOfTime:
        raise
    except NoEvidence:
        return None
    if not alone < together - _NOTHING * abs(together) or paired - alone > _NOTHING * (together - alone):
        return None
    return (
        f"for embeddings in which the {classes} classes lie together two by two the loss is {paired:.3g}, as where "
        f"each lies by itself ({alone:.3g}), and {together:.3g} where all lie together"
    )


def _loss_of_places(evidence: Evidence, places: torch.Tensor) -> float:
    """The loss of embeddings that lie together where `places` are equal, and far apart elsewhere."""

    def output(_: int, tensor: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        own = tensor.detach().cpu().double()
        noise = functional.normalize(torch.randn(own.shape, generator=generator, dtype=own.dtype), dim=1)
        corners = torch.eye(own.shape[1], dtype=own.dtype)[places]
        embeddings: torch.Tensor = own.norm(dim=1).mean() * functional.normalize(corners + _NOISE * noise, dim=1)
        return embeddings

    return loss_of(evidence, output)
