"""Losses of embeddings that do not separate classes whose embeddings coincide."""

from __future__ import annotations

import torch
from torch.nn import functional

from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.substituted_outputs import class_numbers_matter, loss_of, step_outputs
from striate.doctor.setup.batch import main_tensor, parts

_FEWEST, _NOISE, _NOTHING, _NOTHING_GAINED = 4, 0.05, 1e-3, 0.02
"""Fewest classes with two samples or more; the noise within a class, as a share of the embeddings' length; the largest
relative difference at which losses count as equal; and the same where noise differs, as a share of what the loss gains
from samples of a class that lie together."""


def classes_together(evidence: Evidence) -> str | None:
    """What was measured, of a loss that depends on which labels are equal, but is as small where pairs of classes, or
    all of them, coincide as where all classes are apart; None for other losses."""
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
        if not alone < together - _NOTHING * abs(together):
            return _all_together(evidence, numbers, alone, together)
    except OutOfTime:
        raise
    except NoEvidence:
        return None
    if paired - alone > _NOTHING * (together - alone):
        return None
    return (
        f"for embeddings in which the {classes} classes lie together two by two the loss is {paired:.3g}, as where "
        f"each lies by itself ({alone:.3g}), and {together:.3g} where all lie together"
    )


def _all_together(evidence: Evidence, numbers: torch.Tensor, alone: float, together: float) -> str | None:
    """What was measured, of a loss of distances that is as small where all embeddings coincide; None for one that
    depends on where embeddings lie, as the error of a reconstruction does."""
    size = step_outputs(evidence)[0].shape[1]
    scattered = _loss_of_places(evidence, torch.arange(len(numbers)) % size)
    others = [_loss_of_places(evidence, (places + size // 2) % size) for places in (numbers, torch.zeros_like(numbers))]
    around = scattered - min(alone, together)
    if not around > _NOTHING * abs(scattered) or together - alone > _NOTHING_GAINED * around:
        return None
    if any(abs(one - other) > _NOTHING_GAINED * around for one, other in zip(others, (alone, together), strict=True)):
        return None
    return (
        f"for embeddings that all lie together the loss is {together:.3g}, as where each class lies by itself "
        f"({alone:.3g}), and {scattered:.3g} where samples lie apart whatever their class"
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
