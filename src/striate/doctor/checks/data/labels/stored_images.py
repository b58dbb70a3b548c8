"""Stored images, before augmentation: do their labels belong to them?"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.held_samples import columns_of
from striate.doctor.evidence.read_batches import at_bottom
from striate.doctor.evidence.samples import class_numbers
from striate.doctor.evidence.simple_models import fit_simple_models
from striate.doctor.setup.batch import leaf

_MOST, _FEWEST, _SIGMAS, _CERTAIN = 1000, 100, 5.0, 5.0


def labels_fit_stored_images(evidence: Evidence) -> bool:
    """Whether simple models predict the labels from the stored images, and augmented images correlate with stored ones
    in mean or contrast. Then augmentation leaves nothing to learn, and the labels are right."""
    with suppress(NoEvidence):
        found = _held_and_drawn(evidence) if evidence.inputs_vary else None
        if found is None:
            return False
        held, drawn, labels = found
        reference = fit_simple_models(held, labels, evidence.clock)
        name = reference.best[0]
        chance = reference.by_chance(name)
        error = (chance * (1 - chance) / len(reference.labels)) ** 0.5
        return reference.accuracy(name) - chance > _SIGMAS * error and _go_together(held, drawn)
    return False


def _held_and_drawn(evidence: Evidence) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Stored and augmented images (N, …), with their labels (N,)."""
    loader: Any = evidence.setup.train
    x_path, y_path = evidence.samples.x_path, evidence.samples.y_path
    if not isinstance(loader, DataLoader) or x_path is None or y_path is None:
        return None
    data: Any = loader.dataset
    numbers = list(range(0, len(data), -(-len(data) // _MOST)))
    if len(numbers) < _FEWEST:
        return None
    try:
        batch = loader.collate_fn([data[number] for number in numbers])
        drawn, labels = leaf(batch, x_path), class_numbers(leaf(batch, y_path))
        bottom, rows = at_bottom(data, numbers)
        columns = [[column[row] for row in rows] for column in columns_of(bottom)]
    except Exception:  # a data set of the user's
        return None
    if drawn is None or labels is None or drawn.ndim != 4:
        return None
    size = drawn[0].numel()
    images = [
        torch.stack([torch.as_tensor(part) for part in column]).cpu().float()
        for column in columns
        if all(isinstance(p, torch.Tensor | np.ndarray) and p.shape == column[0].shape for p in column)
        and math.prod(column[0].shape) == size
    ]
    return (images[0], drawn.cpu().float(), labels) if len(images) == 1 else None


def _go_together(held: torch.Tensor, drawn: torch.Tensor) -> bool:
    """Whether the means or contrasts of stored and augmented images correlate beyond chance."""
    one, other = (torch.stack([part.flatten(1).mean(1), part.flatten(1).std(1)]) for part in (held, drawn))
    related = torch.corrcoef(torch.cat([one, other]).double())[:2, 2:]
    return bool((related.abs() > _CERTAIN * len(held) ** -0.5).any())
