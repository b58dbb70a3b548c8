"""Losses of embeddings that have nothing against classes that lie on one another."""

from __future__ import annotations

import torch
from torch.nn import functional

from striate.doctor.evidence.clock import NoEvidence, OutOfTime
from striate.doctor.evidence.comparable_outputs import predicts_targets
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.substituted_outputs import class_numbers_matter, loss_of, step_outputs
from striate.doctor.setup.batch import main_tensor, parts

_FEWEST, _SPREAD, _NOTHING = 4, 0.05, 1e-3
"""Classes of two samples or more; how far embeddings of a class are spread, as a share of their length; and what counts
as no difference between losses."""


def classes_together(evidence: Evidence) -> str | None:
    """A loss that asks which class numbers are equal, and is as small where classes lie together two by two as where
    each lies by itself."""
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
        shown = [tensor for tensor in step_outputs(evidence) if tensor.is_floating_point()]
        fits = len(shown) == 1 and shown[0].ndim == 2 and len(shown[0]) == len(labels) and classes <= shown[0].shape[1]
        if not fits or not evidence.targets_matter or class_numbers_matter(evidence):
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
    """The loss of embeddings of which those with equal numbers lie together, far from the others."""

    def answer(_: int, tensor: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        own = tensor.detach().cpu().double()
        noise = functional.normalize(torch.randn(own.shape, generator=generator, dtype=own.dtype), dim=1)
        corners = torch.eye(own.shape[1], dtype=own.dtype)[places]
        found: torch.Tensor = own.norm(dim=1).mean() * functional.normalize(corners + _SPREAD * noise, dim=1)
        return found

    return loss_of(evidence, answer)
