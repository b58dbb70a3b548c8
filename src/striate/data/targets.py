"""Targets of many samples: dense ones are a tensor; ragged ones have a different number of entries for each sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True, eq=False)
class Ragged:
    """Entries of N samples, such as boxes with their classes; it is indexed, moved and joined like a tensor (N, …)."""

    fields: Mapping[str, torch.Tensor]
    """By name, (M, …) tensors with the entries of all samples, one sample after the other."""
    counts: torch.Tensor
    """(N,) int64: the number of entries of each sample; their sum is M."""

    def __post_init__(self) -> None:
        total = int(self.counts.sum())
        assert all(len(values) == total for values in self.fields.values()), "fields of another number of entries"

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def device(self) -> torch.device:
        """The device of the counts and of all fields."""
        return self.counts.device

    def __getitem__(self, rows: slice | torch.Tensor) -> Ragged:
        """The samples at `rows`: a slice, positions or a mask."""
        starts = self.counts.cumsum(0) - self.counts
        chosen, counts = starts[rows], self.counts[rows]
        before = counts.cumsum(0) - counts
        entries = torch.arange(int(counts.sum()), device=self.device)
        places = entries + torch.repeat_interleave(chosen - before, counts)
        return Ragged({name: values[places] for name, values in self.fields.items()}, counts)

    def index_select(self, dim: int, rows: torch.Tensor) -> Ragged:
        """The samples at these positions; `dim` is 0."""
        assert dim == 0, "samples are on the first axis"
        return self[rows]

    def clone(self) -> Ragged:
        """A copy."""
        return Ragged({name: values.clone() for name, values in self.fields.items()}, self.counts.clone())

    def of(self, sample: int) -> dict[str, torch.Tensor]:
        """The entries of one sample, by field."""
        start = int(self.counts[:sample].sum())
        stop = start + int(self.counts[sample])
        return {name: values[start:stop] for name, values in self.fields.items()}

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Ragged:
        """The same on `device`."""
        moved = {name: values.to(device, non_blocking=non_blocking) for name, values in self.fields.items()}
        return Ragged(moved, self.counts.to(device, non_blocking=non_blocking))

    def cpu(self) -> Ragged:
        """The same in memory."""
        return self.to("cpu")


Targets = Any
"""(N,) class numbers, (N, T) numbers, (N, H, W) masks, or `Ragged` entries, depending on the task."""


def arrays_of(targets: Targets) -> dict[str, np.ndarray]:
    """Targets as arrays in memory: dense ones under an empty name, ragged ones by field, with their `counts`."""
    if isinstance(targets, Ragged):
        fields = {name: np.ascontiguousarray(values.cpu().numpy()) for name, values in targets.fields.items()}
        return fields | {"counts": targets.counts.cpu().numpy()}
    return {"": np.ascontiguousarray(targets.cpu().numpy())}


def join_targets(parts: Sequence[Targets]) -> Targets:
    """Targets of one data set, one after the other."""
    dense = [part for part in parts if isinstance(part, torch.Tensor)]
    if len(dense) == len(parts):
        return torch.cat(dense)
    ragged = [part for part in parts if isinstance(part, Ragged)]
    assert len(ragged) == len(parts), "dense and ragged targets do not join"
    fields = {name: torch.cat([part.fields[name] for part in ragged]) for name in ragged[0].fields}
    return Ragged(fields, torch.cat([part.counts for part in ragged]))
