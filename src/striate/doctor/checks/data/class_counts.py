"""How many samples of each class the loaders yield; of maps of classes, in how many each occurs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import torch

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence

_MOST_CLASSES = 100_000


@dataclass(frozen=True)
class ClassCounts:
    """Samples of each class, from 0; of maps, those that have the class, and `positions` of each in training.
    `outputs`: for how many classes
    the network has one; None where the step numbers classes in its own way."""

    train: torch.Tensor
    val: torch.Tensor | None
    outputs: int | None
    positions: torch.Tensor | None = None

    @property
    def things(self) -> str:
        """What is counted in words."""
        return "samples" if self.positions is None else "maps"


def class_counts(evidence: Evidence) -> ClassCounts:
    """Count what was read. Raises NoEvidence where the targets are no classes."""
    outputs = _outputs(evidence)
    if evidence.samples.maps is not None:
        return _of_maps(evidence, evidence.samples.maps, outputs)
    labels = evidence.samples.labels
    val = None
    with suppress(NoEvidence):
        val = evidence.val_samples.labels
    known = [labels[labels >= 0]] + ([val[val >= 0]] if val is not None else [])
    size = max([int(part.max()) + 1 for part in known if len(part)] + [outputs or 0])
    if size > _MOST_CLASSES or not len(known[0]):
        raise NoEvidence("the targets are no class numbers")
    counted = [torch.bincount(part, minlength=size) for part in known]
    return ClassCounts(counted[0], counted[1] if len(counted) > 1 else None, outputs)


def _outputs(evidence: Evidence) -> int | None:
    plain = evidence.samples.plain or (evidence.samples.plain is None and evidence.patient.own_step)
    return evidence.classes if plain and evidence.patient.classifies else None


def _of_maps(evidence: Evidence, maps: torch.Tensor, outputs: int | None) -> ClassCounts:
    """Positions of one map are no samples of their own: whether a class is missing, maps say."""
    val = None
    with suppress(NoEvidence):
        val = evidence.val_samples.maps
    size = max(int(maps.max()) + 1, 0 if val is None else int(val.max()) + 1, outputs or 0)
    if size > _MOST_CLASSES or not bool((maps >= 0).any()):
        raise NoEvidence("the targets are no class numbers")
    positions = torch.bincount(maps[maps >= 0], minlength=size)
    return ClassCounts(_having(maps, size), None if val is None else _having(val, size), outputs, positions)


def _having(maps: torch.Tensor, size: int) -> torch.Tensor:
    """(size,) how many maps have each class."""
    flat = maps.flatten(1)
    rows = torch.arange(len(flat))[:, None].expand_as(flat)
    known = flat >= 0
    return torch.bincount(torch.unique(rows[known] * size + flat[known]) % size, minlength=size)
