"""Whole batches of raw inputs in an order that depends only on (seed, epoch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch

from striate.data.counter_random import hash_key
from striate.data.dataset import Split
from striate.data.store.ahead import read_ahead
from striate.data.store.host import HostImages
from striate.data.store.stored import Inputs, StoredInputs
from striate.data.targets import Targets
from striate.data.transfer import copied_ahead, fits_on, sent


@dataclass(frozen=True)
class Batch:
    """Raw inputs (B, C, *spatial) or (B, F), targets (B, …) and sample ids (B,), as in `Split`; ids in memory.

    They may be a part of the batch: from sample number `start` on, of `samples` in all (None: these are all)."""

    inputs: torch.Tensor
    targets: Targets
    ids: torch.Tensor
    start: int = 0
    samples: int | None = None

    @property
    def whole(self) -> int:
        """How many samples the batch has in all its parts."""
        return len(self.ids) if self.samples is None else self.samples


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
    split: Split,
    batch: int,
    *,
    order: torch.Tensor | None = None,
    first: int = 0,
    stop: int | None = None,
    part: Callable[[int], tuple[int, int]] | None = None,
) -> Iterator[Batch]:
    """The batches `first` to `stop` of one pass over the split, in `order` (in memory) or as they lie; of each only
    the samples that `part` says (first and last+1, from how many it has), where it is given.

    Inputs that are not in memory are read in the background, a few batches ahead; the threads end with the iterator.
    Nobody else holds a batch: its tensors may be changed, but views of the split (without an `order`) may not.
    Raises DataError for files that cannot be read any more.
    """
    bounds = batch_bounds(len(split), batch)[first:stop]
    if part is not None:
        yield from _parts(split, bounds, order, part)
        return
    yield from _batches(split, bounds, order)


def _parts(
    split: Split,
    bounds: Sequence[tuple[int, int]],
    order: torch.Tensor | None,
    part: Callable[[int], tuple[int, int]],
) -> Iterator[Batch]:
    inside = [part(end - start) for start, end in bounds]
    own = [(start + a, start + b) for (start, _), (a, b) in zip(bounds, inside, strict=True)]
    given = _batches(split, own, order)
    for batch, (start, end), (a, _) in zip(given, bounds, inside, strict=True):
        yield replace(batch, start=a, samples=end - start)


def _batches(split: Split, bounds: Sequence[tuple[int, int]], order: torch.Tensor | None) -> Iterator[Batch]:
    if isinstance(split.inputs, StoredInputs):
        yield from _stored_batches(split, split.inputs, bounds, order)
        return
    if order is None:
        for start, end in bounds:
            yield Batch(split.inputs[start:end], split.targets[start:end], split.ids[start:end])
        return
    there = sent(order, split.targets.device)  # once a pass
    for start, end in bounds:
        rows = there[start:end]
        # Indexing with [rows] does the same, and takes up to ninety times as long for bytes.
        inputs, targets = (x.index_select(0, rows) for x in (split.inputs, split.targets))
        yield Batch(inputs, targets, split.ids.index_select(0, order[start:end]))


def _stored_batches(
    split: Split, stored: StoredInputs, bounds: Sequence[tuple[int, int]], order: torch.Tensor | None
) -> Iterator[Batch]:
    places = torch.arange(len(split)) if order is None else order
    there = sent(places, split.targets.device)
    with closing(read_ahead(stored, bounds, places.numpy())) as read:
        for (start, end), inputs in zip(bounds, copied_ahead(read, stored.device), strict=True):
            targets = split.targets.index_select(0, there[start:end])
            yield Batch(inputs, targets, split.ids.index_select(0, places[start:end]))


def to_device(split: Split, device: torch.device) -> Split:
    """The split with its inputs and targets on `device`, raw bytes staying bytes. Ids stay in memory: what is drawn
    from them is drawn there.

    Images that would fill an accelerator stay in memory, and are sent batch by batch.
    """
    inputs: Inputs = split.inputs
    if isinstance(inputs, torch.Tensor) and inputs.dtype == torch.uint8 and not fits_on(inputs, device):
        inputs = StoredInputs(HostImages(inputs.numpy()), np.arange(len(inputs)))
    return Split(inputs.to(device), split.targets.to(device), split.ids)
