"""Augmentation of sequences that drops elements of the input, but not of the target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch

from striate.doctor.checks.data.moved.left_behind import AUGMENTATION, left_behind
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.read_batches import read_by_index
from striate.models.preserved_state import same_random_state
from striate.records import Finding
from striate.wording import several

FEWEST_KEPT = 8
"""The fewest samples whose targets keep their positions."""
_SAMPLES, _DRAWS, _SHORTEST = 128, 6, 3

_Pair = tuple[list[int], list[int]]


def left_of_sequences(evidence: Evidence) -> Finding | None:
    """A finding if inputs lose elements, but not their targets; None if few do. Raises NoEvidence if samples cannot be
    read twice."""
    kept, lost = count_dropped(evidence.setup.train, evidence.clock.until(0.05))
    if kept < FEWEST_KEPT or lost > kept / 10:
        return None
    return left_behind(
        AUGMENTATION,
        f"in draws of {several(kept, 'sample')} elements of the input are left out, and the targets stay at "
        "their positions: all targets after the first gap belong to other elements",
        f"elements of the input are left out in draws of {FEWEST_KEPT} or more samples, and nine in ten of these "
        "samples keep targets at their positions instead of with their elements",
        "Most targets of such a sequence belong to other elements.",
        "leave out both: `words, tags = [words[i] for i in kept], [tags[i] for i in kept]`",
    )


def count_dropped(loader: Any, until: float) -> tuple[int, int]:
    """The number of samples whose input loses elements in some draw while targets keep their positions, and the number
    of samples whose targets lose the same elements, among those that can be read `until` a time. Raises NoEvidence if
    samples cannot be read twice."""
    data = read_by_index(loader)
    kept = lost = 0
    with same_random_state():
        for number in range(min(_SAMPLES, len(data))):
            if perf_counter() > until:
                break
            try:
                draws = [_tagged(data[number]) for _ in range(_DRAWS)]
            except Exception as error:  # a data set of the user's
                raise NoEvidence(f"the data set raises {type(error).__name__} when a sample is read") from None
            known = [draw for draw in draws if draw is not None]
            if len(known) < len(draws):
                raise NoEvidence("the samples are not sequences with a target for each element")
            stays = [
                kept_by_position
                for draw in known
                if (kept_by_position := _targets_stay(max(known, key=lambda one: len(one[0])), draw)) is not None
            ]
            kept, lost = kept + (True in stays), lost + (False in stays)
    return kept, lost


def _tagged(sample: Any) -> _Pair | None:
    """The elements of a sequence and their targets; None for other samples."""
    if isinstance(sample, Mapping):
        named = [key for key in sample if any(word in str(key).lower() for word in ("label", "tag", "target"))]
        targets = sample[named[0]] if len(named) == 1 else None
        inputs: Any = next((part for key, part in sample.items() if key not in named), None)
    elif isinstance(sample, Sequence) and len(sample) == 2:
        inputs, targets = sample
    else:
        return None
    one, other = (_numbers(part) for part in (inputs, targets))
    return None if one is None or other is None or len(one) != len(other) else (one, other)


def _numbers(part: Any) -> list[int] | None:
    if isinstance(part, torch.Tensor | np.ndarray | list | tuple) and len(part) >= _SHORTEST:
        array = np.asarray(part)
        return array.tolist() if array.ndim == 1 and array.dtype.kind in "iu" else None
    return None


def _targets_stay(whole: _Pair, some: _Pair) -> bool | None:
    """Whether a shortened draw has the targets of the complete one by position (True) or by element (False); None if it
    is not shortened, or if both or neither hold."""
    if len(some[0]) >= len(whole[0]) or not _within(iter(whole[0]), some[0]):
        return None
    by_element = _within(iter(zip(*whole, strict=True)), list(zip(*some, strict=True)))
    last = len(some[1]) - 1  # an end token may follow
    by_position = some[1][:last] == whole[1][:last]
    return None if by_element == by_position else by_position


def _within(whole: Iterator[Any], some: list[Any]) -> bool:
    """Whether all elements of `some` occur in `whole`, in this order."""
    return all(one in whole for one in some)
