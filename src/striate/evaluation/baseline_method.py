"""How a baseline is fitted: a method with a name, what it hands back, and a choice by the validation split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from striate.data.dataset import Dataset
from striate.tasks.protocol import Task

CHOICE = 5_000
"""So many samples at most are learned from while hyperparameters are chosen, and validated on."""
MOST = 60_000
"""So many samples at most are learned from with the chosen ones."""

Value = TypeVar("Value")
Model = TypeVar("Model")


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a method hands back: its answers on the test split as `Task.decode` gives them, and how it came to them.

    `ranked`: whether the order of the classes in `decoded` means anything beyond the first.
    """

    decoded: torch.Tensor
    features: str
    n_train: int
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    ranked: bool = True


@dataclass(frozen=True)
class Method:
    """A baseline before it is fitted; `fit(data, task, seed)` learns from train, chooses by val, answers for test."""

    name: str
    what: str
    fit: Callable[[Dataset, Task, int], Fitted]


def stratified_sample(targets: ArrayLike, count: int, seed: int) -> NDArray[np.int64]:
    """(min(count, N),) positions in rising order, drawn at random so that each class (or each stretch of a number)
    keeps its share; all of them where there are no more than `count`."""
    values = np.asarray(targets).reshape(len(np.asarray(targets)), -1)[:, 0]
    total = len(values)
    if total <= count:
        return np.arange(total)
    order = np.random.default_rng(seed).permutation(total)
    order = order[np.argsort(values[order], kind="stable")]
    return np.sort(order[np.arange(count) * total // count])


def choose_by_validation(
    grid: Sequence[Value],
    fit: Callable[[Value, NDArray[np.int64]], Model],
    score: Callable[[Model], float],
    few: NDArray[np.int64],
    many: NDArray[np.int64],
) -> tuple[Value, Model]:
    """The value of `grid` with the highest `score`, the first of equal ones, and its model.

    `fit(value, positions)` learns from the samples at `positions`: `few` while choosing, then once from `many`.
    """
    best, chosen, model = -np.inf, None, None
    for value in grid:
        tried = fit(value, few)
        reached = score(tried)
        if model is None or reached > best:
            best, chosen, model = reached, value, tried
    assert chosen is not None and model is not None, "an empty grid"
    return chosen, model if len(few) == len(many) else fit(chosen, many)


def sampling_note(n_train: int, total: int, chosen_on: int, unit: str = "training samples") -> str:
    """What was cut short: fewer samples than there are, or a choice made on fewer than are fitted."""
    notes = []
    if n_train < total:
        notes.append(f"Learned from {n_train:,} of the {total:,} {unit}, drawn with the share of each class kept.")
    if chosen_on < n_train:
        notes.append(f"Hyperparameters were chosen on {chosen_on:,} of them.")
    return " ".join(notes)
