"""Which training samples are measured once training is over: all, or as many as tell enough in little time."""

from __future__ import annotations

from dataclasses import replace

import torch

from striate.data.dataset import Dataset
from striate.training.config import Config


def measured_count(samples: int, config: Config) -> int:
    """How many of so many training samples are measured."""
    return min(samples, config.evaluation.train_samples or samples)


def measured_part(data: Dataset, config: Config) -> Dataset:
    """The data with `evaluation.train_samples` of the training samples, evenly spaced over them."""
    train = data.splits["train"]
    count = measured_count(len(train), config)
    if count == len(train):
        return data
    rows = torch.arange(count) * len(train) // count
    return replace(data, splits=data.splits | {"train": train.take(rows)})
