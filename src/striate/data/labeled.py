"""Masks that say nothing."""

from __future__ import annotations

import torch

from striate.data.dataset import Dataset
from striate.errors import DataError

IGNORED = 255  # pixels that nobody labeled


def with_labels(data: Dataset) -> Dataset:
    """`data`, if each split of masks has a pixel that is labeled: of others there is nothing to learn or to measure.

    Raises DataError.
    """
    for name, split in data.splits.items():
        if data.annotation == "mask" and len(split) and bool((split.targets == IGNORED).all()):
            raise DataError(
                f"data {data.source}",
                f"no labeled pixel in the {len(split):,} masks of {name}: all are {IGNORED}, which counts for nothing",
                "at least one labeled pixel in each split",
                "label some of its masks, or let striate split: put all images into one folder",
            )
    return data


def class_counts(targets: torch.Tensor, classes: int) -> torch.Tensor:
    """(K,) float64: how many samples, or labeled pixels of masks, each class has."""
    labeled = targets[targets != IGNORED] if targets.dtype == torch.uint8 else targets
    return torch.bincount(labeled.reshape(-1).long(), minlength=classes).double()
