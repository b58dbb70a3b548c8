"""How many samples of each class the loaders yield."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence

_MOST_CLASSES = 100_000


@dataclass(frozen=True)
class ClassCounts:
    """Samples of each class, from 0; `outputs`: for how many classes
    the network has one; None where the step numbers classes in its own way."""

    train: torch.Tensor
    val: torch.Tensor | None
    outputs: int | None


def class_counts(evidence: Evidence) -> ClassCounts:
    """Count what was read. Raises NoEvidence where the targets are no classes."""
    labels = evidence.samples.labels
    val = None
    with suppress(NoEvidence):
        val = evidence.val_samples.labels
    outputs: int | None = None
    if evidence.samples.plain or (evidence.samples.plain is None and evidence.patient.own_step):
        outputs = evidence.classes
    known = [labels[labels >= 0]] + ([val[val >= 0]] if val is not None else [])
    size = max([int(part.max()) + 1 for part in known if len(part)] + [outputs or 0])
    if size > _MOST_CLASSES or not len(known[0]):
        raise NoEvidence("the targets are no class numbers")
    counted = [torch.bincount(part, minlength=size) for part in known]
    return ClassCounts(counted[0], counted[1] if len(counted) > 1 else None, outputs)
