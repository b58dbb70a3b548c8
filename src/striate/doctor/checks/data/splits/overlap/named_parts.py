"""Variables that are named for training, and those named alike for validation or test."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

TRAINING = re.compile(r"train|trn|(?<![a-z])tr(?![a-z])")
OTHERS = ("val", "valid", "validation", "va", "test", "te", "tst", "dev", "eval", "query", "queries", "holdout")
FEWEST = 5
"""The fewest positions: two numbers may be the ends of a range."""
_INDEX = ("idx", "ind", "index", "indices", "ids", "mask", "split", "fold", "nodes", "rows")


def is_for_training(name: str) -> bool:
    """Whether a name is that of an index or a mask of training."""
    return bool(TRAINING.search(name.lower())) and any(word in name.lower() for word in _INDEX)


def named_pairs(names: Mapping[str, Any]) -> Iterator[tuple[str, Any, str, Any]]:
    """Variables named for training, each with the variables of the same name for validation or test."""
    for name, value in list(names.items()):
        if TRAINING.search(name.lower()):
            yield from ((name, value, *pair) for pair in counterparts(name, names))


def counterparts(name: str, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The variables for validation or test whose names correspond to a name for training."""
    for word in OTHERS:
        other = TRAINING.sub(word, name.lower())
        yield from ((found, value) for found, value in names.items() if found.lower() == other)


def positions(value: Any) -> set[int]:
    """The positions of an index or a mask; empty for other values."""
    if isinstance(value, list | tuple | range) and all(type(number) is int for number in value[:100]):
        value = list(value)
    elif not isinstance(value, torch.Tensor | np.ndarray) or value.ndim != 1:
        return set()
    numbers = np.asarray(value)
    if numbers.dtype == bool:
        numbers = numbers.nonzero()[0]
    found = set(numbers.tolist()) if numbers.dtype.kind in "iu" else set()
    return found if 2 * len(found) > len(numbers) else set()  # numbers that mostly repeat are values, such as tokens
