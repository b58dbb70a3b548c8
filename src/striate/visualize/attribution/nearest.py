"""The training samples with the most similar features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.dataset import Dataset
from striate.visualize.inside.features import Features
from striate.visualize.inside.passes import evenly_spaced

COUNT, MOST = 6, 5000
_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Neighbor:
    """A training sample."""

    path: str
    """As in split.csv."""
    label: str
    """Its label as text."""
    similarity: float
    """Cosine of the angle between its features and those of the explained sample, at most 1."""
    input: NDArray[Any]
    """The raw input."""

    def to_json(self) -> dict[str, Any]:
        """Path, label and similarity."""
        return {"path": self.path, "label": self.label, "similarity": self.similarity}


@dataclass(frozen=True)
class Nearest:
    """The training samples that are most similar to the explained sample."""

    neighbors: tuple[Neighbor, ...] = ()
    """The nearest first; empty where there are none."""
    looked_at: int = 0
    """Number of training samples that were compared."""
    total: int = 0
    """Number of training samples."""
    source: str = ""
    """Which features were compared, in words."""
    missing: str = ""
    """Why there are no neighbors; else empty."""

    def to_json(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return vars(self) | {"neighbors": [neighbor.to_json() for neighbor in self.neighbors]}


def find_nearest(
    features: Callable[[torch.Tensor], Features], raw: torch.Tensor, data: Dataset, label: Callable[[Any], str]
) -> Nearest:
    """The six samples of the training split whose `features` have the smallest angle to those of the input `raw`,
    (1, …), among at most 5,000 evenly spaced samples. `label` gives a sample's target in words."""
    train = data.splits["train"]
    rows = evenly_spaced(len(train), MOST)
    own = features(raw)
    cosines = [_cosines(features(train.inputs[part]).values, own.values[0]) for part in rows.split(_AT_ONCE)]
    joined = np.concatenate(cosines)
    order = np.argsort(-joined, kind="stable")[:COUNT]
    neighbors = tuple(_neighbor(data, int(rows[k]), float(joined[k]), label) for k in order)
    return Nearest(neighbors, len(rows), len(train), own.source)


def _cosines(values: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(values.astype(np.float64), axis=1) * np.linalg.norm(own.astype(np.float64))
    products: NDArray[np.float64] = values.astype(np.float64) @ own.astype(np.float64)
    cosines = np.zeros_like(products)
    np.divide(products, lengths, out=cosines, where=lengths > 0)
    return cosines


def _neighbor(data: Dataset, row: int, similarity: float, label: Callable[[Any], str]) -> Neighbor:
    train = data.splits["train"]
    path = data.facts["train"].paths[row] if data.facts else str(int(train.ids[row]))
    return Neighbor(path, label(train.targets[row]), similarity, train.inputs[row].cpu().numpy())
