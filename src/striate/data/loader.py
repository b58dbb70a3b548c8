"""Whole batches of raw inputs in an order that depends only on (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from striate.data.counter_random import hash_key
from striate.data.dataset import Split


@dataclass(frozen=True)
class Batch:
    """Raw inputs (B, C, *spatial) or (B, F), targets (B, …) and sample ids (B,), as in `Split`."""

    inputs: torch.Tensor
    targets: torch.Tensor
    ids: torch.Tensor


def epoch_order(samples: int, seed: int, epoch: int) -> torch.Tensor:
    """(samples,) int64: the order in which an epoch visits the samples, each once."""
    generator = torch.Generator().manual_seed(hash_key(seed, epoch, 0))
    return torch.randperm(samples, generator=generator)


def batch_bounds(samples: int, batch: int) -> list[tuple[int, int]]:
    """Start and stop of each batch of an epoch: all of size `batch` but the last, which holds the rest.

    A rest of one sample joins the batch before it: batch normalization has no variance over one sample.
    """
    starts = list(range(0, samples, batch))
    if len(starts) > 1 and samples - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], samples], strict=True))


def batches(
    split: Split, batch: int, *, order: torch.Tensor | None = None, first: int = 0, stop: int | None = None
) -> Iterator[Batch]:
    """The batches `first` to `stop` of one pass over the split, in `order` or as they lie."""
    for start, end in batch_bounds(len(split), batch)[first:stop]:
        if order is None:
            yield Batch(split.inputs[start:end], split.targets[start:end], split.ids[start:end])
            continue
        rows = order[start:end].to(split.inputs.device)
        # Indexing with [rows] does the same, and takes up to ninety times as long for bytes.
        yield Batch(*(x.index_select(0, rows) for x in (split.inputs, split.targets, split.ids)))


def to_device(split: Split, device: torch.device) -> Split:
    """The split with its tensors on `device`, raw bytes staying bytes."""
    return Split(split.inputs.to(device), split.targets.to(device), split.ids.to(device))
