"""Data sets that change their stored images when a sample is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, default_convert

from striate.doctor.evidence.held_samples import columns_of
from striate.doctor.evidence.read_batches import MOST_BYTES, positions_drawn
from striate.doctor.setup.batch import leaves, main_tensor, parts

_ASKED, _TIMES, _FEWEST_NUMBERS = 8, 4, 16
_ARRAYS = (torch.Tensor, np.ndarray)
Array = torch.Tensor | np.ndarray[Any, Any]


class ChangedByReading(NamedTuple):
    """How reading samples changes what a data set stores."""

    changed: int
    """Number of samples whose stored data changed."""
    read: int
    """Number of samples that were read."""
    same: bool
    """Whether the target of each sample equals its input."""


def changed_by_reading(loader: Any) -> ChangedByReading | None:
    """What reading a few samples changes; None where nothing changes, or the data set cannot be read by index. The
    stored data are restored."""
    drawn = positions_drawn(loader)
    data: Any = loader.dataset if isinstance(loader, DataLoader) else []
    held = [] if drawn is None else list(_held(drawn[0]))
    if drawn is None or not held or sum(part.nbytes for part in held) > MOST_BYTES:
        return None
    with suppress(Exception):  # a data set of the user's
        numbers = range(min(_ASKED, len(data)))
        for number in numbers:  # first fill the caches of data sets that have one
            data[number]
        before = [_copy(part) for part in held]
        samples = [default_convert(data[number]) for number in numbers]
        other = [(part, was) for part, was in zip(held, before, strict=True) if not _equal(part, was)]
        if not other:
            return None
        count = sum(not _equal(one, was) for part, whole in other for one, was in _each(part, whole, len(drawn[0])))
        for part, was in other:
            np.asarray(part)[...] = np.asarray(was)
        return ChangedByReading(min(count, len(numbers)), len(numbers), all(map(target_is_input, samples)))
    return None


def targets_changed_by_reading(loader: Any) -> tuple[int, int] | None:
    """The number of samples whose stored target changes when they are read, while the larger image stays the same and
    the sample contains the changed target; and the number of samples read. None where no target changes. The stored
    data are restored."""
    data: Any = loader.dataset if isinstance(loader, DataLoader) else []
    changed = 0
    with suppress(Exception):  # a data set of the user's
        columns, asked = columns_of(data), min(_ASKED, len(data))
        for number in range(asked):
            at_first = [(part, _copy(part)) for column in columns for part in _arrays(column[number])]
            data[number]  # first fill the cache of a data set that has one
            held = [part for column in columns for part in _arrays(column[number])]
            if sum(part.nbytes for part in held) > MOST_BYTES:
                return None
            before = [_copy(part) for part in held]
            for _ in range(_TIMES):
                given = [part for _, part in leaves(default_convert(data[number]))]
                other = [(part, was) for part, was in zip(held, before, strict=True) if not _equal(part, was)]
                if other:
                    changed += all(_is_given(part, given) for part, _ in other)
                    for part, was in at_first:
                        np.asarray(part)[...] = np.asarray(was)
                    break
    return (changed, asked) if changed else None


def _arrays(entry: Any) -> Iterator[Array]:
    """The arrays that a data set stores for a sample: all arrays of a record."""
    parts_held = entry.values() if isinstance(entry, Mapping) else entry if isinstance(entry, list | tuple) else [entry]
    yield from (part for part in parts_held if isinstance(part, _ARRAYS))


def _is_given(held: Array, given: list[torch.Tensor]) -> bool:
    """Whether a sample contains these numbers, in any order, and a larger image."""
    own = np.sort(np.asarray(held), None)
    same = any(part.numel() == own.size and _equal(np.sort(np.asarray(part), None), own) for part in given)
    return same and any(part.ndim > 1 and part.numel() > own.size for part in given)


def _held(data: Any) -> Iterator[Array]:
    """Stored arrays and lists of arrays with an entry for each sample, where an entry is an image or as large."""
    for column in columns_of(data):
        if isinstance(column, list | tuple):
            yield from (part for part in column if isinstance(part, _ARRAYS) and _size(part) >= _FEWEST_NUMBERS)
        elif isinstance(column, _ARRAYS) and _size(column[0]) >= _FEWEST_NUMBERS:
            yield column


def _each(part: Array, was: Array, samples: int) -> Iterator[tuple[Array, Array]]:
    return zip(part, was, strict=True) if len(part) == samples else iter([(part, was)])


def target_is_input(sample: Any) -> bool:
    """Whether a sample or a batch has a target that equals its input."""
    inputs, targets = (main_tensor(part) for part in parts(sample))
    several = len(list(leaves(sample))) > 1  # perhaps the same tensor twice
    return several and inputs is not None and targets is not None and _equal(inputs, targets)


def _size(part: Any) -> int:
    return part.numel() if isinstance(part, torch.Tensor) else int(np.size(part))


def _copy(part: Array) -> Array:
    return part.clone() if isinstance(part, torch.Tensor) else part.copy()


def _equal(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other), equal_nan=True)
